/** Whether a document, a question and room for the answer fit the model's context. Never a cut: what
 * does not fit is an error with the numbers, and with what can be done. */
import { ScholiaError } from "../../contract/errors.ts";

export interface Demand {
  contextTokens: number;
  /** Tokens of the chosen pages. */
  documentTokens: number;
  /** Instructions and marks. */
  aroundTokens: number;
  /** The question, with the turns before it. */
  questionTokens: number;
  /** Turns of the chat before the question. */
  turns: number;
  /** `--max-tokens` */
  answerTokens: number;
  /** Tokens of each chosen page with its mark, in order. */
  pages: { number: number; tokens: number }[];
}

/** @throws ScholiaError `context_exceeded` */
export function checkFit(demand: Demand): void {
  const needed =
    demand.documentTokens + demand.aroundTokens + demand.questionTokens + demand.answerTokens;
  if (needed <= demand.contextTokens) return;
  const question = demand.turns > 0 ? "the question with the chat before it" : "the question";
  throw new ScholiaError(
    "context_exceeded",
    `The document has ${count(demand.documentTokens)} tokens, ${question} ${count(demand.questionTokens)}, ` +
      `what stands around them ${count(demand.aroundTokens)}, and the answer may have ${count(demand.answerTokens)}: ` +
      `${count(needed)} together. The model's context holds ${count(demand.contextTokens)}. ${remedies(demand, needed).join("; ")}.`,
  );
}

const count = (tokens: number): string => tokens.toLocaleString("en");

function remedies(demand: Demand, needed: number): string[] {
  const remedies: string[] = [];
  if (demand.turns > 0) remedies.push("start a new chat");
  const shorter = demand.contextTokens - (needed - demand.answerTokens);
  if (shorter >= 64) remedies.push(`give the answer less room (${count(shorter)} tokens fit)`);
  const pages = firstPagesWithin(demand);
  if (pages !== null) remedies.push(`read a part (pages ${pages} fit)`);
  remedies.push("take a model with a longer context");
  const [first, ...rest] = remedies;
  return [`${first![0]!.toUpperCase()}${first!.slice(1)}`, ...rest];
}

/** The longest run of pages from the first one that fits beside all the rest. */
export function firstPagesWithin(demand: Demand): string | null {
  let room =
    demand.contextTokens - demand.aroundTokens - demand.questionTokens - demand.answerTokens;
  const fitting = demand.pages.findIndex(({ tokens }) => {
    room -= tokens;
    return room < 0;
  });
  const first = demand.pages[0];
  const last = demand.pages[fitting - 1];
  if (first === undefined || last === undefined) return null;
  const isRun = last.number - first.number === fitting - 1;
  if (!isRun) return null;
  return first.number === last.number ? `${first.number}` : `${first.number}-${last.number}`;
}
