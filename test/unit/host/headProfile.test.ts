import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ScholiaError } from "../../../contract/errors.ts";
import {
  budgetTokensOf,
  checkProfileFits,
  engineProfile,
  findHeadProfile,
  formatHeadProfile,
  type HeadProfile,
  loadHeadProfile,
  parseHeadProfile,
  uniformProfile,
} from "../../../host/models/headProfile.ts";

const shape = { fingerprint: "ab".repeat(32), layers: 2, kvHeads: 3, headDim: 64 };

function sample(change: (profile: HeadProfile) => void = () => {}): HeadProfile {
  const table = <T>(value: (layer: number, head: number) => T) =>
    [0, 1].map((layer) => [0, 1, 2].map((head) => value(layer, head)));
  const profile: HeadProfile = {
    format: "scholia head profile",
    version: 4,
    name: "sample",
    model: { name: "a model", fingerprint: shape.fingerprint, layers: 2, kvHeads: 3, headDim: 64 },
    digest: "mean_std",
    reference: { contextTokens: 6144, budgetTokens: 1024 },
    seed: 0,
    blockTokens: table((_layer, head) => ([16, 32, 128][head] ?? 64) as 16 | 32 | 64 | 128),
    budgetTokens: table((layer) => (layer === 0 ? 512 : 1536)),
    defaultBudget: {
      budget: { tokens: 1024, percent: 12 },
      measured: {
        contextTokens: 6144,
        positions: 9000,
        kl: {
          given: { value: 0.01, low: 0.008, high: 0.013 },
          retrieval: { value: 0.02, low: 0.018, high: 0.023 },
        },
        bytesPerToken: 1500,
        denseBytesPerToken: 9000,
      },
    },
    measured: {
      outputError: table(() => 0.1),
      recall: table(() => 0.9),
      errorByBlock: table(() => [0.1, 0.2, 0.3, 0.4]),
      uniform: { outputError: 0.2, recall: 0.85 },
      bytesPerToken: 1000,
      uniformBytesPerToken: 1001,
      queries: 32,
      errors: {
        budgetTokens: [512, 1024],
        table: table(() => [16, 32, 64, 128].map(() => [0.2, 0.1])),
      },
      retrieval: { score: table(() => 0.25), copies: 40, contextTokens: 6144 },
      influence: table((layer) => (layer === 0 ? 0.5 : 1.5)),
    },
    texts: [{ name: "a.txt", kind: "given", sha256: "cd".repeat(32), tokens: 6144 }],
  };
  change(profile);
  return profile;
}

const unmeasured = { errors: null, retrieval: null, influence: null };
const measuredOf = (file: Record<string, unknown>) => file.measured as HeadProfile["measured"];

const codeOf = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    return error instanceof ScholiaError ? `${error.code}: ${error.message}` : String(error);
  }
  return "no error";
};

describe("the budget of answers", () => {
  const profile = sample();
  test("is the one that was chosen", () => {
    expect(budgetTokensOf(700, profile, 6144)).toBe(700);
    expect(budgetTokensOf(700, null, 6144)).toBe(700);
  });

  test("else the profile's share of the context, with a floor", () => {
    expect(budgetTokensOf(null, profile, 24_576)).toBe(2950);
    expect(budgetTokensOf(null, profile, 2000)).toBe(1024);
  });

  test("else the usual one", () => {
    expect(budgetTokensOf(null, null, 24_576)).toBe(2048);
    expect(budgetTokensOf(null, { ...profile, defaultBudget: null }, 24_576)).toBe(2048);
  });
});

describe("the head profile's file", () => {
  const withoutInfluence = ({ measured }: HeadProfile) => {
    const { influence: _influence, ...older } = measured;
    return older;
  };

  test("of version 3 is read, without influence", () => {
    const old = { ...sample(), version: 3, measured: withoutInfluence(sample()) };
    const expected = sample(({ measured }) => Object.assign(measured, { influence: null }));
    expect(parseHeadProfile(JSON.stringify(old), "p.json")).toEqual(expected);
    expect(codeOf(() => parseHeadProfile(JSON.stringify({ ...old, version: 4 }), "p"))).toMatch(
      /^profile_broken.*measured\.influence/,
    );
  });

  test("of version 2 is read, without a default budget", () => {
    const { defaultBudget: _defaultBudget, ...newer } = sample();
    const rest = { ...newer, measured: withoutInfluence(sample()) };
    const read = parseHeadProfile(JSON.stringify({ ...rest, version: 2 }), "p.json");
    const expected = sample(({ measured }) => Object.assign(measured, { influence: null }));
    expect(read).toEqual({ ...expected, defaultBudget: null });
    expect(codeOf(() => parseHeadProfile(JSON.stringify({ ...rest, version: 3 }), "p"))).toMatch(
      /^profile_broken.*defaultBudget/,
    );
  });

  test("is read as it was written", () => {
    const text = formatHeadProfile(sample());
    expect(parseHeadProfile(text, "p.json")).toEqual(sample());
    // A row of a table is a line.
    expect(text).toContain("[ 16, 32, 128 ]");
  });

  test("of version 1 is read, without what it did not keep", () => {
    const { errors: _errors, retrieval: _retrieval, ...measured } = withoutInfluence(sample());
    const { defaultBudget: _defaultBudget, ...rest } = sample();
    const old = { ...rest, version: 1, measured };
    const read = parseHeadProfile(JSON.stringify(old), "p.json");
    const expected = sample(({ measured }) => Object.assign(measured, unmeasured));
    expect(read).toEqual({ ...expected, defaultBudget: null });
    expect(codeOf(() => parseHeadProfile(JSON.stringify({ ...old, version: 2 }), "p"))).toMatch(
      /^profile_broken.*measured\.errors/,
    );
  });

  test("gives the engine shares of mean 1, layer by layer", () => {
    const { blockTokens, budgetShare, digest, modelFingerprint } = engineProfile(sample());
    expect(blockTokens).toEqual([16, 32, 128, 16, 32, 128]);
    expect(budgetShare).toEqual([0.5, 0.5, 0.5, 1.5, 1.5, 1.5]);
    expect(digest).toBe("mean_std");
    expect(modelFingerprint).toBe(shape.fingerprint);
  });

  test.each<[string, (file: Record<string, unknown>) => void, RegExp]>([
    ["another format", (file) => (file.format = "something"), /format/],
    ["a later version", (file) => (file.version = 5), /version 5/],
    ["a row of influence too few", (file) => measuredOf(file).influence!.pop(), /influence/],
    ["a score above 1", (file) => (measuredOf(file).retrieval!.score[0]![1] = 1.1), /score\.0\.1/],
    [
      "a row of scores too few",
      (file) => measuredOf(file).retrieval!.score.pop(),
      /retrieval\.score: 2 rows of 3/,
    ],
    [
      "an error too few",
      (file) => measuredOf(file).errors!.table[1]![2]![3]!.pop(),
      /errors\.table: 2 budgets/,
    ],
    ["a field too many", (file) => (file.extra = 1), /extra/],
    ["a field missing", (file) => delete file.digest, /digest/],
    ["an unknown digest", (file) => (file.digest = "median"), /digest/],
    [
      "a block size that is none",
      (file) =>
        (file.blockTokens = [
          [16, 32, 48],
          [16, 32, 64],
        ]),
      /blockTokens\.0\.2/,
    ],
    ["a row too few", (file) => (file.blockTokens = [[16, 32, 64]]), /blockTokens: 2 rows of 3/],
    [
      "a row too short",
      (file) =>
        (file.budgetTokens = [
          [512, 512],
          [512, 512, 512],
        ]),
      /budgetTokens/,
    ],
    [
      "a budget of 0",
      (file) =>
        (file.budgetTokens = [
          [0, 1, 1],
          [1, 1, 1],
        ]),
      /budgetTokens\.0\.0/,
    ],
    [
      "a budget that is no whole number",
      (file) =>
        (file.budgetTokens = [
          [1.5, 1, 1],
          [1, 1, 1],
        ]),
      /budgetTokens/,
    ],
    [
      "a fingerprint that is none",
      (file) => ((file.model as Record<string, unknown>).fingerprint = "xyz"),
      /fingerprint/,
    ],
    ["an absurd shape", (file) => ((file.model as Record<string, unknown>).layers = 1e9), /layers/],
    ["no texts", (file) => (file.texts = []), /texts/],
  ])("is refused with %s", (_name, change, place) => {
    const file = JSON.parse(JSON.stringify(sample())) as Record<string, unknown>;
    change(file);
    const error = codeOf(() => parseHeadProfile(JSON.stringify(file), "p.json"));
    expect(error).toMatch(/^profile_broken: The head profile p\.json/);
    expect(error).toMatch(place);
  });

  test("is refused when it is cut anywhere, or any byte is not JSON", () => {
    const text = formatHeadProfile(sample());
    fc.assert(
      fc.property(fc.integer({ min: 0, max: text.trimEnd().length - 1 }), (length) => {
        expect(codeOf(() => parseHeadProfile(text.slice(0, length), "p"))).toMatch(
          /^profile_broken/,
        );
      }),
      { numRuns: 200, seed: 6 },
    );
    for (const value of ["null", "[]", '"x"', "1", '{"version":1}', "[".repeat(100_000)]) {
      expect(codeOf(() => parseHeadProfile(value, "p"))).toMatch(/^profile_broken/);
    }
  });

  test("is refused for another model", () => {
    expect(() => checkProfileFits(sample(), shape)).not.toThrow();
    expect(codeOf(() => checkProfileFits(sample(), { ...shape, layers: 4 }))).toMatch(
      /^profile_mismatch.*2 layers × 3 KV heads of 64; the model has 4 × 3 of 64/,
    );
    const other = { ...shape, fingerprint: "ef".repeat(32) };
    expect(codeOf(() => checkProfileFits(sample(), other))).toMatch(
      /^profile_mismatch.*other weights/,
    );
  });

  test("is not needed: every head then has blocks of 32 and the same budget", () => {
    expect(uniformProfile(shape)).toEqual({
      modelFingerprint: "",
      digest: "mean_std",
      blockTokens: [32, 32, 32, 32, 32, 32],
      budgetShare: [1, 1, 1, 1, 1, 1],
    });
  });
});

describe("finding a profile", () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "scholia-profiles-"));
  });
  afterEach(() => rm(folder, { recursive: true }));

  test("goes by the weights, not by the file's name; damaged files are named", async () => {
    await writeFile(join(folder, "a.json"), "{");
    await writeFile(join(folder, "b.json"), formatHeadProfile(sample()));
    const found = await findHeadProfile(shape.fingerprint, [join(folder, "absent"), folder]);
    expect(found.profile?.name).toBe("sample");
    expect(found.broken).toHaveLength(1);
    expect((await findHeadProfile("00".repeat(32), [folder])).profile).toBeNull();
  });

  test("says why a file can't be read", async () => {
    await expect(loadHeadProfile(join(folder, "none.json"))).rejects.toMatchObject({
      code: "profile_broken",
    });
    await writeFile(join(folder, "big.json"), " ".repeat(9 * 1024 * 1024));
    await expect(loadHeadProfile(join(folder, "big.json"))).rejects.toThrow(/larger/);
  });
});
