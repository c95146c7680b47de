/** How far sparse reading is from dense reading of the same text: the Kullback-Leibler divergence
 * KL(dense || sparse) of the next-token distributions, token by token, teacher forced. */
import type { TextKind } from "../../contract/quality.ts";
import type { Engine, Stoppable } from "../engine/engine.ts";
import type { ReadingMode } from "./readingModes.ts";
import { stopIfAsked } from "./stopIfAsked.ts";

/** A text whose last tokens are read one by one. */
export interface HeldOutText {
  name: string;
  kind: TextKind;
  tokens: Int32Array;
  /** How many of them. */
  tailTokens: number;
}

/** The depth, in tokens, at which its tail is read on average. */
export const middleOfTail = ({ tokens, tailTokens }: HeldOutText): number =>
  tokens.length - Math.floor(tailTokens / 2);

export interface Divergence {
  text: string;
  kind: TextKind;
  mode: string;
  budgetTokens: number;
  /** Mean over the tail, in nats. */
  kl: number;
  /** [tail], in nats. */
  klByPosition: number[];
  /** Share of the tail where dense and sparse put the same token first. */
  sameTopToken: number;
  /** Mean negative log-likelihood of the text's own next token, less that of dense reading. */
  lossIncrease: number;
  /** Mean per decoded token: K, V and digests. */
  bytesPerToken: number;
  /** Mean blocks read per decoded token, over all heads; 0 in dense reading. */
  blocksPerToken: number;
}

export interface DivergenceCall extends Stoppable {
  onProgress?: (done: string) => void;
}

/** Rows of logits are large: so many of each mode are held at a time. */
const chunkTokens = 256;

/** Reads the text up to its tail once, densely, then the tail token by token in each mode from a fork
 * of its own.
 * @throws ScholiaError `cancelled`, at the next token */
export async function measureDivergence(
  engine: Engine,
  text: HeldOutText,
  dense: ReadingMode,
  modes: ReadingMode[],
  { signal, onProgress = () => {} }: DivergenceCall = {},
): Promise<Divergence[]> {
  const head = text.tokens.slice(0, text.tokens.length - text.tailTokens);
  const tail = text.tokens.slice(head.length);
  const sequence = await engine.createSequence();
  await engine.prefill(sequence, head, { persist: true, wantLogits: false, signal });
  onProgress("read");
  const open = async (mode: ReadingMode) => ({ mode, sequence: await engine.fork(sequence) });
  const truth = await open(dense);
  const read = await Promise.all(modes.map(open));
  const sums = modes.map((mode) => new Sum(text, mode));
  try {
    for (let at = 0; at < tail.length; at += chunkTokens) {
      const chunk = tail.slice(at, at + chunkTokens);
      const following = tail.slice(at + 1, at + chunkTokens + 1);
      const dense = await readTokens(engine, truth, chunk, signal);
      for (const [index, fork] of read.entries())
        sums[index]!.add(following, dense, await readTokens(engine, fork, chunk, signal));
      onProgress(`${Math.min(tail.length, at + chunkTokens)} of ${tail.length} positions`);
    }
    return sums.map((sum) => sum.mean());
  } finally {
    for (const fork of [truth, ...read]) await engine.release(fork.sequence);
    await engine.release(sequence);
  }
}

interface TailReading {
  /** [tokens][vocabulary] */
  logits: Float32Array[];
  bytes: number;
  blocks: number;
}

async function readTokens(
  engine: Engine,
  { mode: { mode, budgetTokens, profile }, sequence }: { mode: ReadingMode; sequence: number },
  tokens: Int32Array,
  signal: AbortSignal | undefined,
): Promise<TailReading> {
  await engine.setProfile(profile);
  const reading: TailReading = { logits: [], bytes: 0, blocks: 0 };
  for (const token of tokens) {
    stopIfAsked(signal);
    const step = await engine.decode(sequence, token, { mode, budgetTokens, trace: "counts" });
    reading.bytes += step.kvBytes + step.digestBytes;
    reading.blocks += step.blocks.reduce((sum, count) => sum + count, 0);
    reading.logits.push(await engine.logits());
  }
  return reading;
}

/** What was compared so far. */
class Sum {
  private readonly text: HeldOutText;
  private readonly mode: ReadingMode;
  private readonly kl: number[] = [];
  private same = 0;
  private loss = 0;
  private losses = 0;
  private bytes = 0;
  private blocks = 0;

  constructor(text: HeldOutText, mode: ReadingMode) {
    this.text = text;
    this.mode = mode;
  }

  /** @param following the text's own next tokens; the last of a text has none */
  add(following: Int32Array, truth: TailReading, read: TailReading): void {
    truth.logits.forEach((dense, position) => {
      const sparse = read.logits[position]!;
      this.kl.push(divergence(dense, sparse));
      if (topToken(dense) === topToken(sparse)) this.same++;
      const next = following[position];
      if (next === undefined) return;
      this.loss += surprise(sparse, next) - surprise(dense, next);
      this.losses++;
    });
    this.bytes += read.bytes;
    this.blocks += read.blocks;
  }

  mean(): Divergence {
    const positions = this.kl.length;
    return {
      text: this.text.name,
      kind: this.text.kind,
      mode: this.mode.name,
      budgetTokens: this.mode.budgetTokens,
      kl: this.kl.reduce((sum, kl) => sum + kl, 0) / positions,
      klByPosition: this.kl,
      sameTopToken: this.same / positions,
      lossIncrease: this.loss / Math.max(1, this.losses),
      bytesPerToken: Math.round(this.bytes / positions),
      blocksPerToken: Math.round(this.blocks / positions),
    };
  }
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
