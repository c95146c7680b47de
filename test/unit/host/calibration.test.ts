import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Objective } from "../../../contract/heads.ts";
import { agreements, rankCorrelation } from "../../../host/kv/agreement.ts";
import { allocateHeads } from "../../../host/kv/allocateHeads.ts";
import { retrievalOf } from "../../../host/kv/calibrate.ts";
import { copiedTokens } from "../../../host/kv/calibrationTexts.ts";
import { meanOf } from "../../../host/kv/errorTable.ts";
import { choicesOf, offeredOf } from "../../../host/kv/headChoices.ts";
import { influenceWeights } from "../../../host/kv/influence.ts";
import { headTable } from "../../../host/models/headTable.ts";
import { madeUpFacts, madeUpText, plant, randomNumbers } from "../../../host/tokens/madeUpText.ts";

const blockTokens = [16, 32, 64, 128];
const budgetTokens = [256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096];
const reference = { contextTokens: 24_576, budgetTokens: 1024 };

/** Errors as heads have them: less with finer blocks and larger budgets, each head in its own way. */
function tableOf(heads: number, seed: number) {
  const random = randomNumbers(seed);
  const outputError = Array.from({ length: heads }, () => {
    const weight = 0.02 + random() * 0.5;
    const finer = random();
    return blockTokens.flatMap((block) =>
      budgetTokens.map(
        (budget) => (weight * (1 + finer * Math.log2(block / 16))) / Math.sqrt(budget / 256),
      ),
    );
  }).flat();
  const recall = outputError.map((error) => 1 - error / 10);
  return { blockTokens, budgetTokens, outputError, recall, queries: 8 };
}

describe("the means over texts", () => {
  test("are taken element by element, so that the worst text weighs most", () => {
    const one = { ...tableOf(2, 1), outputError: [0.1, 0.2], recall: [1, 0.5] };
    const two = { ...tableOf(2, 1), outputError: [0.3, 0.2], recall: [0.5, 0.5] };
    const mean = meanOf([one, two]);
    expect(mean.outputError.map((value) => Number(value.toFixed(12)))).toEqual([0.2, 0.2]);
    expect(mean.recall).toEqual([0.75, 0.5]);
    expect(mean.queries).toBe(8);
  });
});

describe("the agreement of texts", () => {
  test("is that of the order of heads, ties sharing their rank", () => {
    expect(rankCorrelation([1, 2, 3, 4], [10, 20, 30, 4000])).toBe(1);
    expect(rankCorrelation([1, 2, 3, 4], [4, 3, 2, 1])).toBe(-1);
    expect(rankCorrelation([1, 2, 3], [5, 5, 5])).toBe(0);
    // By the books: 1 - 6 Σd² / (n (n² - 1)) with d = 0, 1, 1, 0.
    expect(rankCorrelation([1, 2, 3, 4], [1, 3, 2, 4])).toBeCloseTo(0.8, 12);
    expect(rankCorrelation([1, 1, 2], [1, 1, 2])).toBeCloseTo(1, 12);
  });

  test("is whole for a text and itself, small for unrelated ones, and of the reference budget", () => {
    const named = (name: string, seed: number) => ({ name, errors: tableOf(400, seed) });
    const found = agreements([named("a", 1), named("b", 1), named("c", 2)], 1024);
    expect(found.map(({ one, other }) => one + other)).toEqual(["ab", "ac", "bc"]);
    expect(found[0]!.sensitivity).toBeCloseTo(1, 12);
    expect(found[0]!.errors).toBeCloseTo(1, 12);
    for (const { sensitivity, errors } of found.slice(1)) {
      expect(Math.abs(sensitivity)).toBeLessThan(0.2);
      expect(Math.abs(errors)).toBeLessThan(0.2);
    }
    // What the other budgets say of sensitivity changes nothing.
    const perHead = blockTokens.length * budgetTokens.length;
    const at = budgetTokens.indexOf(1024);
    const noisy = named("d", 1);
    noisy.errors.outputError = noisy.errors.outputError.map((error, index) =>
      (index % perHead) % budgetTokens.length === at ? error : 1 - error,
    );
    expect(agreements([named("a", 1), noisy], 1024)[0]!.sensitivity).toBeCloseTo(1, 12);
    expect(agreements([named("a", 1), noisy], 256)[0]!.sensitivity).toBeLessThan(0);
  });
});

describe("the influence of heads", () => {
  // Positions at which rounding does as much to all heads, and some of them more.
  const text = (more: number[], outputError: number[], scale = 1) => ({
    divergence: [0.001, 0.02].map((noise) => more.map((kl) => scale * kl + noise)),
    outputError,
  });
  const alike = [0.5, 0.5, 0.5, 0.5, 0.5];

  test("is what they do alone, above what rounding does, for a unit of their error", () => {
    const weights = influenceWeights([text([0, 0, 0.1, 0.1, 0.4], [0.5, 0.25, 0.5, 0.25, 0.5])]);
    expect(mean(weights)).toBeCloseTo(1, 12);
    const [none, noneOfLess, some, someOfLess, most] = weights;
    // Twice for half the error, drawn halfway to being alike: by the root of two.
    expect(noneOfLess! / none!).toBeCloseTo(Math.SQRT2, 9);
    expect(someOfLess! / some!).toBeCloseTo(Math.SQRT2, 9);
    // Shares of 0, 1/6 and 4/6, and a tenth of an average head's beside.
    expect(most! / none!).toBeCloseTo(Math.sqrt((4 / 6 + 0.02) / 0.02), 9);
    expect(some! / none!).toBeCloseTo(Math.sqrt((1 / 6 + 0.02) / 0.02), 9);
  });

  test("of a text counts as much as that of any other, however little it diverges", () => {
    const one = [0, 0, 0.1, 0.2, 0];
    const other = [0, 0.3, 0, 0, 0.1];
    const weights = influenceWeights([text(one, alike), text(other, alike)]);
    const scaled = influenceWeights([text(one, alike, 100), text(other, alike)]);
    scaled.forEach((weight, head) => {
      expect(weight).toBeCloseTo(weights[head]!, 9);
    });
  });

  test("leaves heads alike that no text tells apart", () => {
    for (const weight of influenceWeights([text([0, 0, 0, 0, 0], alike)]))
      expect(weight).toBeCloseTo(1, 12);
  });
});

const mean = (values: number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

describe("the choices of a head", () => {
  test("have the bytes that decode would read, forced tokens included", () => {
    const choices = choicesOf(tableOf(3, 2), 3, 64, reference);
    expect(choices).toHaveLength(3);
    expect(choices[0]).toHaveLength(36);
    const uniform = choices[1]!.find(
      (choice) => choice.blockTokens === 32 && choice.budgetTokens === 1024,
    )!;
    expect(uniform.bytes).toBe(1024 * 256 + 12 * 512 + (768 - 6) * 64);
    // Blocks of 128 can't keep to 256 tokens: 128 sink, 256 local and a block of 128.
    expect(
      Math.min(
        ...choices[0]!.filter((choice) => choice.blockTokens === 128).map((c) => c.budgetTokens),
      ),
    ).toBe(512);
    choices.flat().forEach((choice, index) => {
      expect(choice.error).toBe(tableOf(3, 2).outputError[index]);
    });
  });

  test("are those of the parts that may be chosen, with what is made least for their error", () => {
    const table = tableOf(2, 3);
    const [head] = choicesOf(table, 2, 64, reference);
    const offered = (objective: Objective, allocate: "both" | "blocks" | "budgets") =>
      offeredOf(head!, table, reference, { objective, allocate }, 3);
    expect(offered("error", "both")).toEqual(head);
    expect(offered("error", "blocks").map(({ blockTokens }) => blockTokens)).toEqual(blockTokens);
    expect(new Set(offered("error", "blocks").map(({ budgetTokens }) => budgetTokens))).toEqual(
      new Set([1024]),
    );
    expect(offered("influence", "both").map(({ error }) => error)).toEqual(
      head!.map(({ error }) => 3 * error),
    );
    const budgets = offered("recall", "budgets");
    expect(budgets).toHaveLength(budgetTokens.length);
    for (const { blockTokens, error, recall, index } of budgets) {
      expect(blockTokens).toBe(32);
      expect(error).toBe(1 - recall);
      expect(recall).toBe(table.recall[index]);
    }
  });

  test("allocated under uniform 32's bytes are never worse than uniform 32", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1e6 }),
        fc.integer({ min: 1, max: 24 }),
        (seed, heads) => {
          const table = tableOf(heads, seed);
          const choices = choicesOf(table, heads, 64, reference);
          const uniformAt = 1 * budgetTokens.length + budgetTokens.indexOf(1024);
          const limit = choices.reduce((total, head) => total + head[uniformAt]!.bytes, 0);
          const uniformError = choices.reduce((total, head) => total + head[uniformAt]!.error, 0);
          const allocation = allocateHeads(choices, limit)!;
          expect(allocation.bytes).toBeLessThanOrEqual(limit);
          expect(allocation.error).toBeLessThanOrEqual(uniformError + 1e-12);
        },
      ),
      { numRuns: 40, seed: 11 },
    );
  });
});

describe("copied tokens", () => {
  const document = [1, 2, 3, 4, 50, 51, 9, 1, 2, 3, 5, 60, 61, 9];

  test("continue a stretch of the document as it goes on there", () => {
    // "1 2 3 4 50" is said again; "9" follows other tokens than in the document.
    const tokens = Int32Array.from([...document, 7, 1, 2, 3, 4, 50, 51, 8, 9]);
    const { positions, sources } = copiedTokens(tokens, document.length);
    expect([...positions]).toEqual([18, 19]);
    expect([...sources]).toEqual([4, 5]);
    positions.forEach((position, index) => {
      expect(tokens[position + 1]).toBe(tokens[sources[index]!]);
    });
  });

  test("are no copies when the chat has them, too", () => {
    const said = [7, 1, 2, 3, 4, 50];
    const tokens = Int32Array.from([...document, ...said, ...said]);
    const { positions } = copiedTokens(tokens, document.length);
    expect([...positions]).toEqual([18]);
  });
});

describe("retrieval scores", () => {
  const model = { layers: 1, kvHeads: 2, queryHeads: 4 };

  test("are those of the best query head of a group, every copy counting the same", () => {
    const measured = [
      { copies: 30, scores: [0.1, 0.5, 0, 0] },
      { copies: 10, scores: [0.9, 0.1, 0, 0.4] },
      { copies: 0, scores: [] },
    ];
    expect(retrievalOf(model, measured, reference)).toEqual({
      score: [[0.4, 0.1]],
      copies: 40,
      contextTokens: reference.contextTokens,
    });
    expect(retrievalOf(model, [{ copies: 0, scores: [] }], reference)).toBeNull();
  });
});

describe("the table of heads", () => {
  const model = { name: "m", fingerprint: "f", layers: 2, kvHeads: 2, headDim: 64 };

  test("of a model without a profile is uniform", () => {
    const table = headTable(model, { name: "uniform 32", file: null });
    expect(table.calibrated).toBe(false);
    expect(table.heads).toHaveLength(4);
    expect(table.heads[3]).toEqual({
      layer: 1,
      kvHead: 1,
      blockTokens: 32,
      budgetShare: 1,
      outputError: null,
      recall: null,
      retrievalScore: null,
      sensitivity: null,
      influence: null,
    });
    expect(table.histogram).toEqual([
      { blockTokens: 16, heads: 0 },
      { blockTokens: 32, heads: 4 },
      { blockTokens: 64, heads: 0 },
      { blockTokens: 128, heads: 0 },
    ]);
  });
});

describe("planted facts", () => {
  const text = madeUpText(3000, 5);

  test("stand whole in the text, in order, at even depths", () => {
    const facts = madeUpFacts(20, randomNumbers(1));
    const sentences = facts.map(({ sentence }) => sentence);
    const planted = plant(text, sentences);
    planted.places.forEach((place, index) => {
      expect(planted.text.slice(place, place + sentences[index]!.length)).toBe(sentences[index]);
      expect(Math.abs(place / planted.text.length - (index + 0.5) / 20)).toBeLessThan(0.05);
    });
    let rest = planted.text;
    for (const sentence of sentences) rest = rest.replace(`${sentence} `, "");
    expect(rest.replace(/\s/g, "")).toBe(text.replace(/\s/g, ""));
  });

  test("are all different, and the same for the same seed", () => {
    const facts = madeUpFacts(40, randomNumbers(7));
    expect(new Set(facts.map(({ question }) => question)).size).toBe(40);
    expect(madeUpFacts(40, randomNumbers(7))).toEqual(facts);
    expect(madeUpFacts(40, randomNumbers(8))).not.toEqual(facts);
    expect(facts[0]!.answer).toContain(facts[0]!.sentence);
  });

  test("fit any text, also a short one", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 200 }), (short) => {
        const sentences = ["One fact.", "Another fact."];
        const planted = plant(short, sentences);
        planted.places.forEach((place, index) => {
          expect(planted.text.startsWith(sentences[index]!, place)).toBe(true);
        });
      }),
      { numRuns: 200, seed: 12 },
    );
  });
});

test("made-up text is as long as asked and the same for the same seed", () => {
  expect(madeUpText(500, 3).split(/\s+/).length).toBeGreaterThan(500);
  expect(madeUpText(500, 3)).toBe(madeUpText(500, 3));
  expect(madeUpText(500, 3)).not.toBe(madeUpText(500, 4));
});
