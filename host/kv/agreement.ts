/** How far texts agree on which heads need fine blocks: what is found on some of them holds for others as
 * far as they do. */
import type { TextAgreement } from "../../contract/heads.ts";

/** Output errors: [heads][block sizes][budgets], flat. */
export interface OutputErrors {
  blockTokens: number[];
  budgetTokens: number[];
  outputError: number[];
}

/** Of texts, or of groups of texts. */
export interface NamedErrors {
  name: string;
  errors: OutputErrors;
}

/** Of each with each.
 * @param budgetTokens at which sensitivity is taken, one of those that were measured */
export function agreements(texts: NamedErrors[], budgetTokens: number): TextAgreement[] {
  return texts.flatMap((one, index) =>
    texts.slice(index + 1).map((other) => ({
      one: one.name,
      other: other.name,
      sensitivity: rankCorrelation(
        sensitivities(one.errors, budgetTokens),
        sensitivities(other.errors, budgetTokens),
      ),
      errors: correlationOfErrors(one.errors, other.errors),
    })),
  );
}

/** Of each head: error with the largest blocks less that with the smallest. */
function sensitivities(errors: OutputErrors, budgetTokens: number): number[] {
  const budget = errors.budgetTokens.indexOf(budgetTokens);
  const smallest = byHead(errors, 0, budget);
  const largest = byHead(errors, errors.blockTokens.length - 1, budget);
  return largest.map((error, head) => error - smallest[head]!);
}

/** Mean over block sizes and budgets of the rank correlation over heads. */
function correlationOfErrors(one: OutputErrors, other: OutputErrors): number {
  const all = one.blockTokens.flatMap((_block, block) =>
    one.budgetTokens.map((_budget, budget) =>
      rankCorrelation(byHead(one, block, budget), byHead(other, block, budget)),
    ),
  );
  return mean(all);
}

/** [heads] */
function byHead(errors: OutputErrors, block: number, budget: number): number[] {
  const { blockTokens, budgetTokens, outputError } = errors;
  const perHead = blockTokens.length * budgetTokens.length;
  const at = block * budgetTokens.length + budget;
  return outputError.filter((_error, index) => index % perHead === at);
}

/** Spearman's: 1 for the same order, -1 for the opposite one, 0 where all are equal. */
export function rankCorrelation(one: readonly number[], other: readonly number[]): number {
  const [ranks, others] = [ranksOf(one), ranksOf(other)];
  const middle = (one.length - 1) / 2;
  const product = (a: number[], b: number[]) =>
    a.reduce((sum, rank, index) => sum + (rank - middle) * (b[index]! - middle), 0);
  const spread = Math.sqrt(product(ranks, ranks) * product(others, others));
  return spread === 0 ? 0 : product(ranks, others) / spread;
}

/** From 0; equal values share the mean of their ranks. */
function ranksOf(values: readonly number[]): number[] {
  const sorted = [...values].sort((a, b) => a - b);
  return values.map((value) => (sorted.indexOf(value) + sorted.lastIndexOf(value)) / 2);
}

const mean = (values: number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
