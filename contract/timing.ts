/** Where the time of a decode step goes, and how rates change with depth. */
import type { Mode } from "./answer.ts";
import type { MeasuredRate } from "./memory.ts";

/** The stages of a decode step, in order; embed and logits once, the others in each layer. */
export const decodeStages = [
  "embed",
  "attention_in",
  "attend",
  "attention_out",
  "feed_forward",
  "logits",
] as const;
export type DecodeStage = (typeof decodeStages)[number];

export interface StageTime {
  stage: DecodeStage;
  /** 0 for embed and logits. */
  layer: number;
  /** Median over the steps. */
  seconds: number;
  /** Weights, keys, values and digests that it reads. */
  bytes: number;
}

/** Decode steps timed in the context of the last answer. */
export interface StepTimings {
  model: { name: string; fingerprint: string; device: string };
  /** Tokens in the context. */
  depthTokens: number;
  /** What the memory gives at most, measured: no step takes less than its bytes divided by it. Null:
   * unknown. */
  bytesPerSecond: number | null;
  modes: { mode: Mode; budgetTokens: number | null; stages: StageTime[] }[];
}

export type DepthRate = Pick<MeasuredRate, "depth" | "tokensPerSecond">;

/** Seconds of a token at a depth: close to a straight line, because attention reads what stands before. The
 * line goes through the measurements by least squares, and promises nowhere more than was ever seen.
 * @returns null without measurements */
export function secondsOverDepth(
  measured: readonly DepthRate[],
): ((depth: number) => number) | null {
  if (measured.length === 0) return null;
  const { base, slope } = lineThrough(measured);
  const fastest = Math.min(...measured.map(({ tokensPerSecond }) => 1 / tokensPerSecond));
  return (depth) => Math.max(fastest, base + slope * depth);
}

/** Depths closer together than this tell nothing of the slope. */
const leastSpread = 1024;

/** Flat where all depths are alike, and never falling. */
function lineThrough(measured: readonly DepthRate[]): { base: number; slope: number } {
  const points = measured.map(({ depth, tokensPerSecond }) => ({ depth, y: 1 / tokensPerSecond }));
  const mean = (of: (point: { depth: number; y: number }) => number) =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length;
  const [meanDepth, meanY] = [mean(({ depth }) => depth), mean(({ y }) => y)];
  const depths = points.map(({ depth }) => depth);
  if (Math.max(...depths) - Math.min(...depths) < leastSpread) return { base: meanY, slope: 0 };
  const variance = mean(({ depth }) => (depth - meanDepth) ** 2);
  const covariance = mean(({ depth, y }) => (depth - meanDepth) * (y - meanY));
  const slope = Math.max(0, covariance / variance);
  return { base: meanY - slope * meanDepth, slope };
}
