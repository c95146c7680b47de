/** How far sparse reading is from dense reading of the same text: the Kullback-Leibler divergence
 * KL(dense || sparse) of the next-token distributions, token by token, teacher forced. */
import { z } from "zod";
import type { TextKind } from "../../contract/quality.ts";
import type { Engine, Stoppable, TailComparison } from "../engine/engine.ts";
import { type FileOf, keep, readingOf, readKept } from "./kept.ts";
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
  /** Where what was measured of each text and mode is kept, so that a measurement that was stopped goes on
   * from there. */
  keepIn?: FileOf;
  onProgress?: (done: string) => void;
}

/** Reads the text up to its tail once, densely; the engine then reads the tail token by token in each
 * mode and compares it with dense reading. What is kept from an earlier call is not measured again.
 * @throws ScholiaError `cancelled`, at the next token */
export async function measureDivergence(
  engine: Engine,
  text: HeldOutText,
  modes: ReadingMode[],
  { keepIn, ...call }: DivergenceCall = {},
): Promise<Divergence[]> {
  const bytes = new Uint8Array(text.tokens.buffer, text.tokens.byteOffset, text.tokens.byteLength);
  const paths = modes.map(
    (mode) => keepIn?.("tail", text.tailTokens, bytes, readingOf(mode)) ?? null,
  );
  const kept = await Promise.all(paths.map((path) => readKept(path, comparisonSchema)));
  const missing = modes.filter((_mode, index) => kept[index] === null);
  const measured = missing.length === 0 ? [] : await measure(engine, text, missing, call);
  for (const [index, path] of paths.entries()) {
    if (kept[index] !== null) continue;
    const comparison = measured.shift()!;
    kept[index] = comparison;
    if (path !== null) await keep(path, comparison);
  }
  return modes.map((mode, index) => ({
    text: text.name,
    kind: text.kind,
    mode: mode.name,
    budgetTokens: mode.budgetTokens,
    ...kept[index]!,
  }));
}

/** What does not depend on what text and mode are called. */
const comparisonSchema = z.strictObject({
  kl: z.number(),
  klByPosition: z.array(z.number()).min(1),
  sameTopToken: z.number(),
  lossIncrease: z.number(),
  bytesPerToken: z.number(),
  denseBytesPerToken: z.number(),
  blocksPerToken: z.number(),
});
type Comparison = z.infer<typeof comparisonSchema>;

async function measure(
  engine: Engine,
  text: HeldOutText,
  modes: ReadingMode[],
  { signal, onProgress = () => {} }: Omit<DivergenceCall, "keepIn">,
): Promise<Comparison[]> {
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
    return compared.map(comparisonOf);
  } finally {
    await engine.release(sequence);
  }
}

function comparisonOf(compared: TailComparison): Comparison {
  const positions = compared.kl.length;
  return {
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
