/** The token sequences that a calibration measures: given texts as they are, and the same texts with
 * planted facts that are asked for at the end, in the model's own chat form, since a head that finds
 * facts shows it only when one is asked for. */
import type { Document } from "../document/document.ts";
import type { CopiedTokens, Engine } from "../engine/engine.ts";
import { madeUpFacts, plant, randomNumbers } from "../tokens/madeUpText.ts";
import { layOutPrompt } from "../tokens/prompt.ts";
import { type Tokenizer, tokenizeSegment } from "../tokens/tokenize.ts";

export interface CalibrationText {
  name: string;
  kind: "given" | "retrieval";
  /** Of the document's file. */
  sha256: string;
  tokens: Int32Array;
  /** The queries are taken from this many last tokens. */
  tailTokens: number;
  /** What the end copies from the document. */
  copies: CopiedTokens;
}

const givenTailTokens = 256;
const facts = 8;
/** Room for instructions, page marks, questions and answers beside the text. */
const aroundTokens = 1024;

/** Two texts for each document, each of about `contextTokens`; a document that is too short for that
 * gives shorter ones.
 * @returns none for a document of fewer than `leastTokens` tokens */
export async function calibrationTexts(
  engine: Engine,
  document: Document,
  contextTokens: number,
  leastTokens: number,
  seed: number,
): Promise<CalibrationText[]> {
  const random = randomNumbers(seed);
  const whole = await engine.tokenize(document.text, false);
  if (whole.length < leastTokens) return [];
  const common = { name: document.name, sha256: document.id };
  const given = windowOf(whole, contextTokens, random);
  const asked = await engine.detokenize(windowOf(whole, contextTokens - aroundTokens, random));
  return [
    {
      ...common,
      kind: "given",
      tokens: given,
      tailTokens: givenTailTokens,
      copies: { positions: new Int32Array(0), sources: new Int32Array(0) },
    },
    { ...common, kind: "retrieval", ...(await retrieval(engine, document.id, asked, random)) },
  ];
}

function windowOf(tokens: Int32Array, length: number, random: () => number): Int32Array {
  const start = Math.floor(random() * Math.max(0, tokens.length - length + 1));
  return tokens.slice(start, start + length);
}

async function retrieval(
  engine: Engine,
  id: string,
  text: string,
  random: () => number,
): Promise<Pick<CalibrationText, "tokens" | "tailTokens" | "copies">> {
  const planted = madeUpFacts(facts, random);
  const withFacts = plant(
    text,
    planted.map(({ sentence }) => sentence),
  ).text;
  const document = {
    id,
    text: withFacts,
    pages: [{ number: 1, start: 0, end: withFacts.length }],
  };
  // Not in the order in which they stand.
  const order = planted.map((fact) => ({ fact, key: random() })).sort((a, b) => a.key - b.key);
  const turns = order.map(({ fact: { question, answer } }) => ({ question, answer }));
  const last = turns.pop()!;
  const prompt = layOutPrompt(engine.model, document, turns, last.question);
  const tokenizer: Tokenizer = engine;
  const told = await tokenizeSegment(tokenizer, prompt.document);
  const conversation = await tokenizeSegment(tokenizer, [
    ...prompt.conversation,
    { text: last.answer, part: "answer" },
  ]);
  const tokens = new Int32Array(told.tokens.length + conversation.tokens.length);
  tokens.set(told.tokens);
  tokens.set(conversation.tokens, told.tokens.length);
  return {
    tokens,
    tailTokens: conversation.tokens.length,
    copies: copiedTokens(tokens, told.tokens.length),
  };
}

/** A copy is told from chance by so many tokens before it that are the same, too. */
const sameBefore = 4;

/** The tokens from `from` on that continue a stretch of the text before `from` as it goes on there, and
 * nowhere else before them: what follows an answer's "the door code of Petra's mill is". */
export function copiedTokens(tokens: Int32Array, from: number): CopiedTokens {
  const positions: number[] = [];
  const sources: number[] = [];
  const isSame = (position: number, source: number) => {
    for (let back = 0; back <= sameBefore; back++) {
      if (tokens[position + 1 - back] !== tokens[source - back]) return false;
    }
    return true;
  };
  for (let position = from + sameBefore; position + 1 < tokens.length; position++) {
    const found: number[] = [];
    for (let source = sameBefore; source <= position; source++) {
      if (isSame(position, source)) found.push(source);
    }
    const [source] = found;
    if (found.length !== 1 || source === undefined || source >= from) continue;
    positions.push(position);
    sources.push(source);
  }
  return { positions: Int32Array.from(positions), sources: Int32Array.from(sources) };
}
