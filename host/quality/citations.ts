/** Whether an answer's citations point at what it rests on: facts are planted in a real text, asked for
 * as a person would, answered and cited by the product's own code. */
import type { Citation } from "../../contract/answer.ts";
import { ScholiaError } from "../../contract/errors.ts";
import type { CitedAnswer } from "../../contract/quality.ts";
import { citationsOf, placesIn } from "../answer/citations.ts";
import { allHeads, citingHeads } from "../answer/citingHeads.ts";
import { type Span, sentencesOf } from "../answer/sentences.ts";
import { type Written, writeAnswer } from "../answer/writeAnswer.ts";
import type { RunSink } from "../channel.ts";
import type { Document } from "../document/document.ts";
import { readDocument } from "../document/read.ts";
import type { Engine } from "../engine/engine.ts";
import type { HeadProfile } from "../models/headProfile.ts";
import { plant } from "../tokens/madeUpText.ts";
import { layOutPrompt } from "../tokens/prompt.ts";
import { type TokenizedSegment, tokenizeSegment } from "../tokens/tokenize.ts";
import { type Fact, madeUpFacts, names } from "./madeUpFacts.ts";
import type { ReadingMode } from "./readingModes.ts";

export interface CitationPlan {
  /** Planted in each document. */
  facts: number;
  /** That document, question and answer take together, about. */
  contextTokens: number;
  seed: number;
}

/** A document with its facts, in the context. */
interface Planted {
  document: Document;
  facts: Fact[];
  segment: TokenizedSegment;
  /** The sequence that begins with the segment. */
  read: number;
}

const answerTokens = 120;
/** Instructions, page marks, question and answer. */
const aroundTokens = 512;
const pageMarkShare = 0.02;

/** Reads each document once; every question is asked of a fork of it. */
export async function measureCitations(
  engine: Engine,
  mode: ReadingMode,
  profile: HeadProfile | null,
  documents: readonly Document[],
  plan: CitationPlan,
  sink: RunSink,
): Promise<CitedAnswer[]> {
  await engine.setProfile(mode.profile);
  const answers: CitedAnswer[] = [];
  for (const [index, document] of documents.entries()) {
    const planted = await plantFacts(engine, document, { ...plan, seed: plan.seed + index });
    const { segment, facts } = planted;
    const read = await engine.createSequence();
    try {
      await engine.prefill(read, segment.tokens, { wantLogits: false, signal: sink.signal });
      const own: CitedAnswer[] = [];
      for (const fact of facts)
        own.push(await askAndCite(engine, mode, profile, { ...planted, read }, fact, sink));
      const right = own.filter(({ isRight }) => isRight).length;
      const tokens = segment.tokens.length;
      sink.notice(`${document.name}, ${tokens} tokens: ${right} of ${own.length} named right`);
      answers.push(...own);
    } finally {
      await engine.release(read);
    }
  }
  return answers;
}

/** A document of its own, read by the parser as a file is. */
async function plantFacts(
  engine: Engine,
  { name, text }: Document,
  { facts: count, contextTokens, seed }: CitationPlan,
): Promise<Omit<Planted, "read">> {
  const facts = madeUpFacts(count, seed);
  const sentences = facts.map(({ sentence }) => sentence);
  const all = await engine.tokenize(text, false);
  const planted = (await engine.tokenize(sentences.join(" "), false)).length;
  const room = Math.floor((contextTokens - aroundTokens - planted) * (1 - pageMarkShare));
  // From the middle of what is left: beginnings are alike.
  const start = Math.floor(Math.max(0, all.length - room) / 2);
  const window = await engine.detokenize(all.slice(start, start + room));
  const bytes = Buffer.from(plant(window, sentences).text);
  const read = await readDocument(bytes, { name: `${name}.txt` });
  if (!read.ok) throw new ScholiaError(read.error.code, read.error.message);
  const document = read.value;
  const prompt = layOutPrompt(engine.model, document, [], "");
  return { document, facts, segment: await tokenizeSegment(engine, prompt.document) };
}

async function askAndCite(
  engine: Engine,
  { mode, budgetTokens }: ReadingMode,
  profile: HeadProfile | null,
  { document, segment, read }: Planted,
  fact: Fact,
  { signal }: RunSink,
): Promise<CitedAnswer> {
  const fork = await engine.fork(read);
  try {
    const { conversation } = layOutPrompt(engine.model, document, [], fact.question);
    const { tokens } = await tokenizeSegment(engine, conversation);
    await engine.prefill(fork, tokens, { wantLogits: true, signal });
    const heads = [citingHeads(engine.model, { file: profile }), allHeads(engine.model)];
    const written = await writeAnswer(engine, fork, segment, heads, {
      mode,
      budgetTokens,
      maxTokens: answerTokens,
      temperature: 0,
      signal,
    });
    return {
      text: document.name,
      question: fact.question,
      answer: written.text,
      isRight: names(written.text, fact.value),
      cited: citedBy(written, document, segment, fact),
    };
  } finally {
    await engine.release(fork);
  }
}

/** Whether the first citation of a sentence that names the value holds it; null: there is none. */
function citedBy(
  { text, attention }: Written,
  document: Document,
  segment: TokenizedSegment,
  fact: Fact,
): CitedAnswer["cited"] {
  const sentences = sentencesOf(text);
  const value = placeOfValue(document.text, fact);
  const [byRetrieval, byAllHeads] = attention.map((map) =>
    citationsOf(text, sentences, document, map, placesIn(segment)).filter(({ sentence }) => {
      const { start, end } = sentences[sentence]!;
      return names(text.slice(start, end), fact.value);
    }),
  );
  const holds = (citations: Citation[], kind: Citation["from"]) => {
    const first = citations.find(({ from }) => from === kind);
    if (first === undefined) return null;
    return first.start !== null && first.start <= value.start && value.end <= first.end!;
  };
  return {
    quotation: holds(byRetrieval!, "quotation"),
    retrieval: holds(byRetrieval!, "attention"),
    "all heads": holds(byAllHeads!, "attention"),
  };
}

function placeOfValue(text: string, { sentence, value }: Fact): Span {
  const start = text.indexOf(sentence) + sentence.lastIndexOf(value);
  return { start, end: start + value.length };
}
