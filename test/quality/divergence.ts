/** How far sparse reading is from dense reading of the same text: the Kullback-Leibler divergence
 * KL(dense || sparse) of the next-token distributions, token by token, teacher forced. */
import type { Engine } from "../../host/engine/engine.ts";
import type { ReadingMode } from "./readingModes.ts";
import type { HeldOutText } from "./texts.ts";

export interface Divergence {
  text: string;
  mode: string;
  budgetTokens: number;
  /** Mean over the tail, in nats. */
  kl: number;
  /** Share of the tail where dense and sparse put the same token first. */
  sameTopToken: number;
  /** Mean negative log-likelihood of the text's own next token, less that of dense reading. */
  lossIncrease: number;
  /** Mean per decoded token: K, V and digests. */
  bytesPerToken: number;
}

/** Reads the text up to its tail once, densely, then the tail token by token in each mode from a
 * fork. */
export async function measureDivergence(
  engine: Engine,
  text: HeldOutText,
  dense: ReadingMode,
  modes: ReadingMode[],
  onProgress: (done: string) => void = () => {},
): Promise<Divergence[]> {
  const head = text.tokens.slice(0, text.tokens.length - text.tailTokens);
  const tail = text.tokens.slice(head.length);
  const sequence = await engine.createSequence();
  await engine.prefill(sequence, head, { persist: true, wantLogits: false });
  onProgress("read");
  try {
    const truth = await readTail(engine, sequence, tail, dense);
    const rows: Divergence[] = [];
    for (const mode of modes) {
      const read = await readTail(engine, sequence, tail, mode);
      const row = { text: text.name, ...compare(tail, truth, read), ...describe(mode, read) };
      rows.push(row);
      onProgress(`${mode.name}, KL ${row.kl.toFixed(4)}`);
    }
    return rows;
  } finally {
    await engine.release(sequence);
  }
}

interface TailReading {
  /** [tail][vocabulary] */
  logits: Float32Array[];
  bytesPerToken: number;
}

async function readTail(
  engine: Engine,
  prefix: number,
  tail: Int32Array,
  { mode, budgetTokens, profile }: ReadingMode,
): Promise<TailReading> {
  await engine.setProfile(profile);
  const sequence = await engine.fork(prefix);
  const logits: Float32Array[] = [];
  let bytes = 0;
  for (const token of tail) {
    const step = await engine.decode(sequence, token, { mode, budgetTokens, trace: "counts" });
    bytes += step.kvBytes + step.digestBytes;
    logits.push(await engine.logits());
  }
  await engine.release(sequence);
  return { logits, bytesPerToken: bytes / tail.length };
}

const describe = (mode: ReadingMode, read: TailReading) => ({
  mode: mode.name,
  budgetTokens: mode.budgetTokens,
  bytesPerToken: Math.round(read.bytesPerToken),
});

function compare(tail: Int32Array, truth: TailReading, read: TailReading) {
  let kl = 0;
  let same = 0;
  let loss = 0;
  truth.logits.forEach((dense, position) => {
    const sparse = read.logits[position]!;
    kl += divergence(dense, sparse);
    if (topToken(dense) === topToken(sparse)) same++;
    const next = tail[position + 1];
    if (next !== undefined) loss += surprise(sparse, next) - surprise(dense, next);
  });
  const positions = truth.logits.length;
  return {
    kl: kl / positions,
    sameTopToken: same / positions,
    lossIncrease: loss / Math.max(1, positions - 1),
  };
}

/** KL(softmax(truth) || softmax(other)) in nats.
 * @throws RangeError for logits that are not finite */
export function divergence(truth: Float32Array, other: Float32Array): number {
  if (truth.length !== other.length) throw new RangeError("rows of different lengths");
  const logOfTruth = logSumExp(truth);
  const logOfOther = logSumExp(other);
  let sum = 0;
  for (let i = 0; i < truth.length; i++) {
    const logP = truth[i]! - logOfTruth;
    sum += Math.exp(logP) * (logP - (other[i]! - logOfOther));
  }
  return sum;
}

/** Negative log-likelihood of the token, in nats. */
function surprise(logits: Float32Array, token: number): number {
  return logSumExp(logits) - logits[token]!;
}

function logSumExp(logits: Float32Array): number {
  let most = Number.NEGATIVE_INFINITY;
  for (const value of logits) {
    if (!Number.isFinite(value)) throw new RangeError(`a logit is ${value}`);
    if (value > most) most = value;
  }
  let sum = 0;
  for (const value of logits) sum += Math.exp(value - most);
  return most + Math.log(sum);
}

function topToken(logits: Float32Array): number {
  let top = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[top]!) top = i;
  return top;
}

export function geometricMean(values: number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}
