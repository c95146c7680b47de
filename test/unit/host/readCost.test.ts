import { describe, expect, test } from "vitest";
import type { DigestBits, DigestKind } from "../../../contract/heads.ts";
import { digestBytesPerToken, headReading, kvBytesPerToken } from "../../../host/kv/readCost.ts";

describe("headReading", () => {
  test("counts whole blocks within the budget, forced ones included", () => {
    // 24,576 tokens, blocks of 32: 2 sink blocks, 128 local tokens, 26 of the free blocks.
    expect(headReading(32, 1024, 24576, 64)).toEqual({
      tokens: 1024,
      kvBytes: 1024 * 256,
      // 12 closed groups with scales; the 2 sink and 4 local blocks are not scored.
      digestBytes: 12 * 8 * 64 + (768 - 6) * 64,
    });
    expect(headReading(128, 1100, 24576, 64).tokens).toBe(1024);
  });

  test("reads at least the forced tokens and one block", () => {
    expect(headReading(128, 1, 24576, 64).tokens).toBe(128 + 256 + 128);
    expect(headReading(16, 1, 24576, 64).tokens).toBe(64 + 128 + 16);
    // The unfinished block and the rest of the block in which the local tokens begin.
    expect(headReading(32, 1, 24576 + 5, 64).tokens).toBe(64 + (128 + 5) + 32);
    expect(headReading(32, 1, 24576 - 5, 64).tokens).toBe(64 + (128 + 27) + 32);
  });

  test("scores nothing when it reads everything", () => {
    expect(headReading(32, 4096, 1000, 64)).toEqual({
      tokens: 1000,
      kvBytes: 1000 * 256,
      digestBytes: 0,
    });
    expect(headReading(64, 100, 100, 128)).toEqual({ tokens: 100, kvBytes: 51200, digestBytes: 0 });
  });

  test("counts the open group at f16", () => {
    // 2,048 closed, 1,000 open tokens: 31 full blocks, of which local tokens take the last 4.
    const { digestBytes } = headReading(32, 512, 3048, 64);
    const firstLocal = Math.floor((3048 - 128) / 32);
    expect(digestBytes).toBe(8 * 64 + (64 - 2) * 64 + (firstLocal - 64) * 256);
  });

  test("counts the vectors and bits of a digest", () => {
    const blocks = 768 - 6;
    const bytes = (digest: DigestKind, digestBits: DigestBits) =>
      headReading(32, 1024, 24576, 64, { digest, digestBits }).digestBytes;
    for (const kind of ["quest", "arkvale", "centroids"] as const)
      expect(bytes(kind, 4)).toBe(bytes("mean_std", 4));
    expect(bytes("quest", 2)).toBe(12 * 8 * 64 + blocks * 32);
    expect(bytes("quest", 8)).toBe(12 * 8 * 64 + blocks * 128);
    expect(bytes("quest", 16)).toBe(blocks * 256);
    expect(bytes("mean", 4)).toBe(bytes("quest", 4) / 2);
  });

  test("does not count the groups before the first scored block", () => {
    expect(headReading(16, 512, 2048, 64).digestBytes).toBe(8 * 64 + (128 - 4 - 8) * 64);
  });
});

test("what a token adds: K and V of every head, and its part of closed digests", () => {
  expect(kvBytesPerToken({ layers: 24, kvHeads: 2, headDim: 64 })).toBe(12_288);
  // A closed group of 2,048 tokens in blocks of 32: four scales of f16, and 64 records of 64 bytes.
  expect(2048 * digestBytesPerToken(32, 64)).toBe(8 * 64 + 64 * 64);
});
