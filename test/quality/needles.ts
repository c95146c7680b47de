/** Facts planted in a real text and asked for one by one: which are found depends on whether the
 * blocks that hold them are read. */
import type { Engine } from "../../host/engine/engine.ts";
import { names } from "../../host/quality/madeUpFacts.ts";
import type { ReadingMode } from "../../host/quality/readingModes.ts";
import type { NeedleText } from "./texts.ts";

export interface NeedleAnswer {
  question: string;
  value: string;
  /** By mode. */
  answers: { mode: string; answer: string; found: boolean }[];
}

const valueTokens = 12;

/** Reads the document once; every question is asked of a fork of it, in every mode. The answer is begun:
 * the fact's words up to the value are read token by token in the mode that is tested, so that a small
 * model that would not answer shows whether it found the place. */
export async function askNeedles(
  engine: Engine,
  { document, questions }: NeedleText,
  modes: ReadingMode[],
): Promise<NeedleAnswer[]> {
  const sequence = await engine.createSequence();
  await engine.prefill(sequence, document, { persist: true, wantLogits: false });
  const rows: NeedleAnswer[] = questions.map(({ fact }) => ({
    question: fact.question,
    value: fact.value,
    answers: [],
  }));
  try {
    for (const mode of modes) {
      await engine.setProfile(mode.profile);
      for (const [index, question] of questions.entries()) {
        const answer = await ask(engine, sequence, question, mode);
        const found = names(answer, question.fact.value);
        rows[index]!.answers.push({ mode: mode.name, answer, found });
      }
    }
    return rows;
  } finally {
    await engine.release(sequence);
  }
}

async function ask(
  engine: Engine,
  document: number,
  { tokens, opening }: NeedleText["questions"][number],
  { mode, budgetTokens }: ReadingMode,
): Promise<string> {
  const sequence = await engine.fork(document);
  await engine.prefill(sequence, tokens);
  for (const token of opening) await engine.decode(sequence, token, { mode, budgetTokens });
  const { text } = await engine.generate(sequence, {
    mode,
    budgetTokens,
    maxTokens: valueTokens,
    temperature: 0,
  });
  await engine.release(sequence);
  return text;
}

export function foundBy(answers: NeedleAnswer[], mode: string): number {
  return answers.filter(({ answers }) =>
    answers.some((answer) => answer.mode === mode && answer.found),
  ).length;
}
