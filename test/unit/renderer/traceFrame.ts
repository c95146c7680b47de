import type { TraceFrame } from "../../../contract/trace.ts";

/** A step's trace in which the heads read so many blocks, of 16 and 32 tokens in turn. */
export const traceFrame = (blocks: number[], mean: number[] = [0, 1]): TraceFrame => ({
  holdsMass: true,
  depth: 1000,
  documentStart: 10,
  documentEnd: 900,
  kvBytes: 6000,
  digestBytes: 100,
  denseBytes: 60_000,
  blockTokens: Uint16Array.from(blocks, (_, head) => [16, 32][head % 2]!),
  blocksRead: Uint16Array.from(blocks),
  massKept: null,
  mean: Float32Array.from(mean),
  perHead: Float32Array.from(blocks.flatMap(() => [0.5, 1])),
  headBins: 2,
});
