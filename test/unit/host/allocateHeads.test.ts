import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Allocation, allocateHeads, type Choice } from "../../../host/kv/allocateHeads.ts";

/** Every combination. */
function bruteForce(choices: Choice[][], limit: number): number | null {
  let best: number | null = null;
  const visit = (head: number, bytes: number, error: number) => {
    if (bytes > limit) return;
    if (head === choices.length) {
      if (best === null || error < best) best = error;
      return;
    }
    for (const choice of choices[head]!)
      visit(head + 1, bytes + choice.bytes, error + choice.error);
  };
  visit(0, 0, 0);
  return best;
}

const choice = fc.record({
  blockTokens: fc.constantFrom(16, 32, 64, 128),
  budgetTokens: fc.integer({ min: 1, max: 4096 }),
  bytes: fc.integer({ min: 1, max: 60 }),
  error: fc.integer({ min: 0, max: 1000 }).map((thousandths) => thousandths / 1000),
});
const heads = fc.array(fc.array(choice, { minLength: 1, maxLength: 5 }), {
  minLength: 1,
  maxLength: 6,
});

function check(choices: Choice[][], allocation: Allocation, limit: number) {
  const picked = allocation.chosen.map((index, head) => choices[head]![index]!);
  expect(picked).not.toContain(undefined);
  const bytes = picked.reduce((total, { bytes }) => total + bytes, 0);
  expect(bytes).toBe(allocation.bytes);
  expect(bytes).toBeLessThanOrEqual(limit);
  const error = picked.reduce((total, { error }) => total + error, 0);
  expect(error).toBeCloseTo(allocation.error, 12);
}

describe("allocateHeads", () => {
  test("is as good as trying every combination", () => {
    fc.assert(
      fc.property(heads, fc.integer({ min: 1, max: 250 }), (choices, limit) => {
        const allocation = allocateHeads(choices, limit);
        const best = bruteForce(choices, limit);
        if (best === null) {
          expect(allocation).toBeNull();
          return;
        }
        check(choices, allocation!, limit);
        expect(allocation!.error).toBeCloseTo(best, 12);
      }),
      { numRuns: 500, seed: 3 },
    );
  });

  test("is never over the limit and never worse than one choice for all", () => {
    const table = fc.array(
      fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 12, maxLength: 12 }),
      { minLength: 2, maxLength: 40 },
    );
    fc.assert(
      fc.property(table, fc.integer({ min: 0, max: 11 }), (errors, uniform) => {
        const choices = errors.map((row) =>
          row.map((error, index) => ({
            blockTokens: 16 << (index % 4),
            budgetTokens: 256 << Math.floor(index / 4),
            bytes: 1024 * (256 << Math.floor(index / 4)) + 512 * (8 >> (index % 4)),
            error,
          })),
        );
        const limit = choices.reduce((total, head) => total + head[uniform]!.bytes, 0);
        const allocation = allocateHeads(choices, limit)!;
        check(choices, allocation, limit);
        const uniformError = choices.reduce((total, head) => total + head[uniform]!.error, 0);
        expect(allocation.error).toBeLessThanOrEqual(uniformError + 1e-12);
      }),
      { numRuns: 200, seed: 4 },
    );
  });

  test("never gets worse with more room", () => {
    fc.assert(
      fc.property(heads, fc.integer({ min: 1, max: 200 }), (choices, limit) => {
        const less = allocateHeads(choices, limit);
        const more = allocateHeads(choices, limit + 7);
        if (less !== null) expect(more!.error).toBeLessThanOrEqual(less.error + 1e-12);
      }),
      { numRuns: 200, seed: 5 },
    );
  });

  test("spends nothing on what does not help", () => {
    const choices: Choice[][] = [
      [
        { blockTokens: 32, budgetTokens: 256, bytes: 10, error: 0.5 },
        { blockTokens: 16, budgetTokens: 256, bytes: 20, error: 0.5 },
      ],
      [
        { blockTokens: 32, budgetTokens: 256, bytes: 10, error: 0.5 },
        { blockTokens: 16, budgetTokens: 256, bytes: 20, error: 0.25 },
      ],
    ];
    expect(allocateHeads(choices, 1000)).toEqual({ chosen: [0, 1], bytes: 30, error: 0.75 });
  });

  test("has no answer when the cheapest choices do not fit", () => {
    const one = { blockTokens: 32, budgetTokens: 256, bytes: 10, error: 0.5 };
    expect(allocateHeads([[one], [one]], 19)).toBeNull();
    expect(allocateHeads([[one], [one]], 20)).not.toBeNull();
    expect(allocateHeads([[one], []], 100)).toBeNull();
  });

  test("solves a model of 48 heads with 36 choices each", () => {
    const choices = Array.from({ length: 48 }, (_, head) =>
      [16, 32, 64, 128].flatMap((blockTokens) =>
        [256, 512, 768, 1024, 1536, 2048, 3072, 4096].map((budgetTokens) => ({
          blockTokens,
          budgetTokens,
          bytes: budgetTokens * 256 + 12 * (512 + (2048 / blockTokens) * 64),
          error: ((head % 7) + 1) / (Math.sqrt(budgetTokens) * (40 + ((head * blockTokens) % 11))),
        })),
      ),
    );
    const limit = 48 * (1024 * 256 + 12 * (512 + 64 * 64));
    check(choices, allocateHeads(choices, limit)!, limit);
  });
});
