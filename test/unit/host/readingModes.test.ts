import { describe, expect, test } from "vitest";
import { digestBits, digestKinds } from "../../../contract/heads.ts";
import type { Engine } from "../../../host/engine/engine.ts";
import { headReading } from "../../../host/kv/readCost.ts";
import {
  atBytesOfUniform32,
  budgeted,
  type ReadingMode,
  summarised,
  uniform,
} from "../../../host/quality/readingModes.ts";

const heads = 90;
const headDim = 64;
const depth = 24_576;
const engine = { model: { layers: 30, kvHeads: 3, headDim } } as Pick<Engine, "model">;

/** What all heads read, as if every one had the same budget. */
function bytesOf({ profile, budgetTokens }: ReadingMode): number {
  const { digest, digestBits = 4, blockTokens } = profile;
  const format = { digest, digestBits };
  const read = headReading(blockTokens[0]!, budgetTokens, depth, headDim, format);
  return heads * (read.kvBytes + read.digestBytes);
}

test("a budget is a number of tokens, or a share of the context and no less than its floor", () => {
  const mode = uniform(engine, 32, 512);
  const at = (tokens: number, percent: number, depth: number) => {
    const { name, budgetTokens } = budgeted(mode, { tokens, percent }, depth);
    return `${name}: ${budgetTokens}`;
  };
  expect(at(2048, 0, 24_576)).toBe("uniform 32, 2,048: 2048");
  expect(at(1024, 8, 24_576)).toBe("uniform 32, 8 %: 1967");
  expect(at(1024, 8, 6144)).toBe("uniform 32, 8 %: 1024");
});

describe("digests side by side", () => {
  const modes = digestKinds.flatMap((digest) =>
    digestBits.map((bits) => summarised(engine, digest, bits, 4096)),
  );
  const uniform32 = uniform(engine, 32, 4096);

  test.each(modes)("$name reads the bytes of uniform 32", (mode) => {
    const equal = atBytesOfUniform32(engine, mode, depth);
    // Within a block of every head.
    const slack = heads * 32 * 4 * headDim;
    expect(Math.abs(bytesOf(equal) - bytesOf(uniform32))).toBeLessThanOrEqual(slack);
  });

  test("what a narrower digest saves is read as tokens, and a wider one takes them", () => {
    const budgets = digestBits.map(
      (bits) =>
        atBytesOfUniform32(engine, summarised(engine, "mean_std", bits, 4096), depth).budgetTokens,
    );
    expect(budgets[0]).toBeGreaterThan(4096);
    expect(budgets[1]).toBe(4096);
    expect(budgets[2]).toBeLessThan(4096);
    expect(budgets[3]).toBeLessThan(budgets[2]!);
  });

  test("one vector stands for 16 tokens where two stand for 32", () => {
    const mean = summarised(engine, "mean", 4, 4096);
    expect([...new Set(Array.from(mean.profile.blockTokens))]).toEqual([16]);
    expect(atBytesOfUniform32(engine, mean, depth).budgetTokens).toBeGreaterThan(4096 - 32);
    expect(new Set(modes.map(({ name }) => name)).size).toBe(modes.length);
  });
});
