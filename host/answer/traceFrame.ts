/** Bins the engine's trace of a decode step to a frame for the stream (contract/trace.ts). */
import { encodeTrace, traceBins } from "../../contract/trace.ts";
import { kvPageTokens, type MassTrace } from "./attention.ts";

/** The engine's trace without masses. */
export interface BlocksTrace {
  depthTokens: number;
  blockTokens: Uint16Array;
  blocks: Uint32Array;
  kvBytes: number;
  digestBytes: number;
  denseBytes: number;
  massKept: Float32Array | null;
}

/** @returns null for a model of so many heads that no frame holds them. */
export function traceFrame(
  trace: BlocksTrace & MassTrace,
  document: { start: number; end: number },
): Uint8Array | null {
  const heads = trace.blockTokens.length;
  const bins = traceBins(heads);
  if (bins === null) return null;
  const mean = new Float32Array(bins.mean);
  const perHead = new Float32Array(heads * bins.perHead);
  for (let head = 0; head < heads; head++) {
    const strip = perHead.subarray(head * bins.perHead, (head + 1) * bins.perHead);
    const blockTokens = trace.blockTokens[head]!;
    for (let at = trace.blockOffset[head]!; at < trace.blockOffset[head + 1]!; at++) {
      const start = trace.blockIndex[at]! * blockTokens;
      const end = Math.min(start + blockTokens, trace.depthTokens);
      const mass = trace.mass[at]!;
      spread(mean, document, start, end, mass / heads);
      if (bins.perHead > 0) spread(strip, document, start, end, mass);
    }
  }
  return encodeTrace({
    holdsMass: true,
    depth: trace.depthTokens,
    documentStart: document.start,
    documentEnd: document.end,
    kvBytes: trace.kvBytes,
    digestBytes: trace.digestBytes,
    denseBytes: trace.denseBytes,
    blockTokens: trace.blockTokens,
    blocksRead: Uint16Array.from(trace.blocks, (blocks) => Math.min(blocks, 0xffff)),
    massKept: trace.massKept,
    mean,
    perHead,
    headBins: bins.perHead,
  });
}

/** Lays a block's mass over the bins that it reaches into, in parts of a KV page. */
function spread(
  bins: Float32Array,
  document: { start: number; end: number },
  start: number,
  end: number,
  mass: number,
) {
  const perBin = (document.end - document.start) / bins.length;
  for (let at = start; at < end; at += kvPageTokens) {
    const until = Math.min(end, at + kvPageTokens);
    const middle = (at + until) / 2;
    if (middle < document.start || middle >= document.end) continue;
    const bin = Math.min(bins.length - 1, Math.floor((middle - document.start) / perBin));
    bins[bin]! += (mass * (until - at)) / (end - start);
  }
}
