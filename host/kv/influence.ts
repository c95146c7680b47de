/** How much of what a head misses reaches the next token: the divergence from dense reading when this head
 * alone reads a few blocks and all others read everything. The error of a head's output does not say it: a
 * head may be wrong by half without any effect, since little of it comes through what the layers add, and
 * another that is wrong by as little decides the token. */
import type { DigestKind } from "../../contract/heads.ts";
import type { Engine, Stoppable, TailModeInput } from "../engine/engine.ts";
import { uniformProfile } from "../models/headProfile.ts";
import type { CalibrationText } from "./calibrationTexts.ts";

/** What the head reads alone: blocks so large of a quarter of the reference budget, so that its error is
 * far above what rounding does to the logits. */
export const influenceBlockTokens = 64;
export const influenceBudgetStep = 1 / 4;

/** Of a text's end, so many stretches are read, of so many tokens each. */
const usualStretches = { count: 4, tokens: 12 };

export interface InfluenceCall extends Stoppable {
  stretches?: typeof usualStretches;
  /** In tokens, each decoded once for every head. */
  onProgress?: (done: number, total: number) => void;
}

/** KL(dense || sparse) of the next token, [positions][heads], in nats.
 * @param budgetTokens of the head that reads sparsely */
export async function measureInfluence(
  engine: Engine,
  { tokens, tailTokens }: Pick<CalibrationText, "tokens" | "tailTokens">,
  budgetTokens: number,
  { signal, stretches = usualStretches, onProgress = () => {} }: InfluenceCall = {},
): Promise<number[][]> {
  const { digest } = await engine.profile();
  const modes = aloneModes(engine, digest, budgetTokens);
  const divergence: number[][] = [];
  const sequence = await engine.createSequence();
  try {
    let read = 0;
    for (const start of stretchStarts(tokens.length, tailTokens, stretches)) {
      await engine.prefill(sequence, tokens.slice(read, start), { wantLogits: false, signal });
      read = start;
      const stretch = tokens.slice(start, start + stretches.tokens);
      const compared = await engine.compareTail(sequence, stretch, modes, { signal });
      for (let at = 0; at < stretch.length; at++)
        divergence.push(compared.map(({ kl }) => kl[at]!));
      onProgress(divergence.length, stretches.count * stretches.tokens);
    }
  } finally {
    await engine.release(sequence);
  }
  return divergence;
}

/** One for each head. */
function aloneModes({ model }: Engine, digest: DigestKind, budgetTokens: number): TailModeInput[] {
  const uniform = uniformProfile(model);
  const blockTokens = uniform.blockTokens.map(() => influenceBlockTokens);
  const profile = { ...uniform, digest, blockTokens };
  return blockTokens.map((_block, onlyHead) => ({ profile, budgetTokens, onlyHead }));
}

/** Evenly over the tail, each in the middle of its part. */
function stretchStarts(
  textTokens: number,
  tailTokens: number,
  { count, tokens }: typeof usualStretches,
): number[] {
  const part = tailTokens / count;
  return Array.from(
    { length: count },
    (_, index) => textTokens - tailTokens + Math.floor((index + 0.5) * part - tokens / 2),
  );
}

/** What a text says of influence: the divergence of {@link measureInfluence}, and the output error that each
 * head has on the text when it reads so. */
export interface MeasuredInfluence {
  divergence: number[][];
  outputError: number[];
}

/** A head is never held for less than this share of an average one: alone, the heads of the first layers
 * hardly matter, but together they do. */
const leastShare = 0.1;
/** Nor for more exact than this, which no head of the models at hand is. */
const leastError = 0.005;
/** What heads do alone does not add up to what they do together, and few positions tell it: the weights are
 * drawn halfway, by their logarithms, to being alike. */
const exponent = 0.5;

/** How much a unit of each head's output error counts, [heads], their mean being 1. */
export function influenceWeights(texts: MeasuredInfluence[]): number[] {
  const shares = texts.map(({ divergence }) => sharesOf(divergence));
  const weights = shares[0]!.map((_share, head) => {
    const share = mean(shares.map((text) => text[head]!)) + leastShare / shares[0]!.length;
    const error = mean(texts.map(({ outputError }) => outputError[head]!));
    return (share / Math.max(error, leastError)) ** exponent;
  });
  return weights.map((weight) => weight / mean(weights));
}

/** Of what all heads do alone, a text's sum being 1: every text counts alike, however easy it is. */
function sharesOf(divergence: number[][]): number[] {
  const aboveNoise = divergence.map((position) => {
    const noise = lowerQuartile(position);
    return position.map((kl) => kl - noise);
  });
  const byHead = divergence[0]!.map((_kl, head) =>
    Math.max(0, mean(aboveNoise.map((position) => position[head]!))),
  );
  const total = byHead.reduce((sum, kl) => sum + kl, 0);
  return byHead.map((kl) => (total > 0 ? kl / total : 1 / byHead.length));
}

/** Most heads do nothing at most positions: what they show is what rounding does. */
function lowerQuartile(values: number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 2]!;
}

const mean = (values: number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
