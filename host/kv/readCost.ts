/** What a head reads per decoded token: the rules of native/engine/decode/plan.h and of the digest
 * layout (native/engine/kv/digests.h), so that an allocation can count the bytes before it is run. */

import type { DigestBits, DigestKind } from "../../contract/heads.ts";

const sinkTokens = 64;
const localTokens = 128;
const digestGroupTokens = 2048;

/** How blocks are summarised. */
export interface DigestFormat {
  digest: DigestKind;
  digestBits: DigestBits;
}

/** What profiles are made for. */
const decodeDigest: DigestFormat = { digest: "mean_std", digestBits: 4 };

export interface HeadReading {
  /** Tokens read, forced ones included: whole blocks within the budget, at least the forced tokens
   * and one block. */
  tokens: number;
  kvBytes: number;
  digestBytes: number;
}

/** @param budgetTokens what the head may read; @param contextTokens depth of the step;
 * @param headDim channels of a key. K and V are f16. */
export function headReading(
  blockTokens: number,
  budgetTokens: number,
  contextTokens: number,
  headDim: number,
  digest: DigestFormat = decodeDigest,
): HeadReading {
  const local = Math.max(2 * blockTokens, localTokens);
  const firstLocal = Math.floor(Math.max(0, contextTokens - local) / blockTokens);
  const sink = Math.min(Math.ceil(sinkTokens / blockTokens), firstLocal);
  const free = firstLocal - sink;
  const forced = contextTokens - free * blockTokens;
  const wanted = Math.floor((budgetTokens - forced) / blockTokens);
  const selected = Math.min(free, Math.max(Math.min(1, free), wanted));
  const tokens = forced + selected * blockTokens;
  return {
    tokens,
    kvBytes: tokens * 4 * headDim,
    // A head that reads every block scores none.
    digestBytes:
      selected < free
        ? digestBytes(blockTokens, sink, firstLocal, contextTokens, headDim, digest)
        : 0,
  };
}

/** Bytes of the digests of the blocks [first, end): quantised records and f16 scales in closed groups,
 * f16 records in the open one. */
function digestBytes(
  blockTokens: number,
  first: number,
  end: number,
  contextTokens: number,
  headDim: number,
  { digest, digestBits }: DigestFormat,
): number {
  const perGroup = digestGroupTokens / blockTokens;
  const closedBlocks = Math.floor(contextTokens / digestGroupTokens) * perGroup;
  const inClosed = Math.max(0, Math.min(end, closedBlocks) - first);
  const inOpen = Math.max(0, end - Math.max(first, closedBlocks));
  const groups =
    inClosed === 0
      ? 0
      : Math.ceil(Math.min(end, closedBlocks) / perGroup) - Math.floor(first / perGroup);
  const channels = (digest === "mean" ? 1 : 2) * headDim;
  const scaleBytes = digestBits === 16 ? 0 : 4 * channels;
  return groups * scaleBytes + (inClosed * channels * digestBits) / 8 + inOpen * 2 * channels;
}

/** K and V of each layer and KV head, two bytes a channel. */
export function kvBytesPerToken({
  layers,
  kvHeads,
  headDim,
}: {
  layers: number;
  kvHeads: number;
  headDim: number;
}): number {
  return layers * kvHeads * headDim * 2 * 2;
}

/** What the digests of a head take in closed groups, which all but the last tokens are in. */
export function digestBytesPerToken(blockTokens: number, headDim: number): number {
  return headDim / blockTokens + (8 * headDim) / digestGroupTokens;
}
