/** The texts of the quality measurements, as tokens. No calibration text of the shipped profiles is
 * among them (docs/quality.md lists both). */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Engine } from "../../host/engine/engine.ts";
import { documentsDir } from "../../host/models/cache.ts";
import type { HeldOutText } from "../../host/quality/divergence.ts";
import { type Fact, madeUpFacts } from "../../host/quality/madeUpFacts.ts";
import { plant } from "../../host/tokens/madeUpText.ts";
import { layOutPrompt, type Prompt } from "../../host/tokens/prompt.ts";
import { tokenizeSegment } from "../../host/tokens/tokenize.ts";

/** Documents of build/documents.ts. `at` is where the window begins, as a share of the rest. */
const plainTexts = [
  { name: "manual", file: "developers-reference.txt", at: 0.2 },
  { name: "code", file: "nlohmann-json.hpp", at: 0.5 },
  { name: "standard", file: "fhs.txt", at: 0.5 },
];
const retrievalTexts = [
  { name: "retrieval in the manual", file: "developers-reference.txt", at: 1, seed: 101 },
  { name: "retrieval in code", file: "nlohmann-json.hpp", at: 0, seed: 102 },
];
const needleText = { file: "developers-reference.txt", at: 0.6 };

export const neededDocuments: string[] = [
  ...new Set([...plainTexts, ...retrievalTexts, needleText].map(({ file }) => file)),
];

const factsAsked = 8;
/** Room for instructions, questions and answers beside the text. */
const aroundTokens = 1024;

export async function plainHeldOutTexts(
  engine: Engine,
  contextTokens: number,
  tailTokens: number,
): Promise<HeldOutText[]> {
  const texts: HeldOutText[] = [];
  for (const { name, file, at } of plainTexts) {
    const tokens = await window(engine, file, at, contextTokens);
    texts.push({ name, kind: "given", tokens, tailTokens });
  }
  return texts;
}

/** Texts with planted facts, and at their end a conversation in the model's own form in which they
 * are asked for and told: the conversation is the tail. */
export async function retrievalHeldOutTexts(
  engine: Engine,
  contextTokens: number,
): Promise<HeldOutText[]> {
  const texts: HeldOutText[] = [];
  for (const { name, file, at, seed } of retrievalTexts) {
    const facts = madeUpFacts(factsAsked, seed);
    const text = await withFacts(engine, file, at, contextTokens - aroundTokens, facts);
    // Every other one first: not in the order in which they stand.
    const asked = [...facts.filter((_, i) => i % 2 === 1), ...facts.filter((_, i) => i % 2 === 0)];
    const last = asked.pop()!;
    const turns = asked.map(({ question, sentence }) => ({ question, answer: sentence }));
    const prompt = promptOf(engine, text, turns, last.question);
    const document = await tokenizeSegment(engine, prompt.document);
    const conversation = await tokenizeSegment(engine, [
      ...prompt.conversation,
      { text: last.sentence, part: "answer" },
    ]);
    const tokens = Int32Array.of(...document.tokens, ...conversation.tokens);
    texts.push({ name, kind: "retrieval", tokens, tailTokens: conversation.tokens.length });
  }
  return texts;
}

/** A document with facts at even depths, and a question for each. */
export interface NeedleText {
  document: Int32Array;
  questions: {
    fact: Fact;
    tokens: Int32Array;
    /** Of the fact's opening, as the answer begins. */
    opening: Int32Array;
  }[];
}

export async function needleHeldOutText(
  engine: Engine,
  contextTokens: number,
  count: number,
  seed: number,
): Promise<NeedleText> {
  const facts = madeUpFacts(count, seed);
  const { file, at } = needleText;
  const text = await withFacts(engine, file, at, contextTokens - aroundTokens, facts);
  const document = await tokenizeSegment(engine, promptOf(engine, text, [], "").document);
  const questions: NeedleText["questions"] = [];
  for (const fact of facts) {
    const { conversation } = promptOf(engine, text, [], fact.question);
    const { tokens } = await tokenizeSegment(engine, conversation);
    questions.push({ fact, tokens, opening: await engine.tokenize(fact.opening, false) });
  }
  return { document: document.tokens, questions };
}

async function window(
  engine: Engine,
  file: string,
  at: number,
  length: number,
): Promise<Int32Array> {
  const all = await engine.tokenize(await readFile(join(documentsDir(), file), "utf8"), false);
  if (all.length < length) throw new Error(`${file} has ${all.length} tokens, not ${length}`);
  const start = Math.floor(at * (all.length - length));
  return all.slice(start, start + length);
}

async function withFacts(
  engine: Engine,
  file: string,
  at: number,
  length: number,
  facts: Fact[],
): Promise<string> {
  const text = await engine.detokenize(await window(engine, file, at, length));
  return plant(
    text,
    facts.map(({ sentence }) => sentence),
  ).text;
}

function promptOf(
  engine: Engine,
  text: string,
  turns: { question: string; answer: string }[],
  question: string,
): Prompt {
  const pages = [{ number: 1, start: 0, end: text.length }];
  return layOutPrompt(engine.model, { id: "held-out", text, pages }, turns, question);
}
