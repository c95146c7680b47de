/** How far sparse reading is from dense reading of the same text: the Kullback-Leibler divergence
 * KL(dense || sparse) of the next-token distributions, token by token, teacher forced. */
import type { TextKind } from "../../contract/quality.ts";
import type { Engine, Stoppable, TailComparison } from "../engine/engine.ts";
import type { ReadingMode } from "./readingModes.ts";

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
  /** What dense reading reads. */
  denseBytesPerToken: number;
  /** Mean blocks read per decoded token, over all heads. */
  blocksPerToken: number;
}

export interface DivergenceCall extends Stoppable {
  onProgress?: (done: string) => void;
}

/** Reads the text up to its tail once, densely; the engine then reads the tail token by token in each
 * mode and compares it with dense reading.
 * @throws ScholiaError `cancelled`, at the next token */
export async function measureDivergence(
  engine: Engine,
  text: HeldOutText,
  modes: ReadingMode[],
  { signal, onProgress = () => {} }: DivergenceCall = {},
): Promise<Divergence[]> {
  const head = text.tokens.slice(0, text.tokens.length - text.tailTokens);
  const tail = text.tokens.slice(head.length);
  const sequence = await engine.createSequence();
  try {
    await engine.prefill(sequence, head, { persist: true, wantLogits: false, signal });
    onProgress("read");
    const compared = await engine.compareTail(sequence, tail, modes, {
      signal,
      onProgress: ({ doneTokens }) => onProgress(`${doneTokens} of ${tail.length} positions`),
    });
    return modes.map((mode, index) => divergenceOf(text, mode, compared[index]!));
  } finally {
    await engine.release(sequence);
  }
}

function divergenceOf(
  { name, kind }: HeldOutText,
  mode: ReadingMode,
  compared: TailComparison,
): Divergence {
  const positions = compared.kl.length;
  return {
    text: name,
    kind,
    mode: mode.name,
    budgetTokens: mode.budgetTokens,
    kl: mean(compared.kl),
    klByPosition: [...compared.kl],
    sameTopToken: mean(compared.sameTop),
    lossIncrease: mean(compared.lossIncrease),
    bytesPerToken: Math.round((compared.kvBytes + compared.digestBytes) / positions),
    denseBytesPerToken: Math.round(compared.denseBytes / positions),
    blocksPerToken: Math.round(compared.blocks / positions),
  };
}

const mean = (values: Float64Array | Uint8Array): number =>
  (values as Float64Array).reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);

export function geometricMean(values: number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}
