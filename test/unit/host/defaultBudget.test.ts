import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type DivergenceRow, qualityBar } from "../../../contract/quality.ts";
import { findModel } from "../../../host/models/catalog.ts";
import { loadHeadProfile, shippedProfilesDir } from "../../../host/models/headProfile.ts";
import { cheapestBudget, writeDefaultBudget } from "../../../host/quality/defaultBudget.ts";

const budgets = [
  { tokens: 1024, percent: 0 },
  { tokens: 1024, percent: 12 },
  { tokens: 4096, percent: 0 },
];
const estimate = (value: number) => ({ value, low: value * 0.9, high: value * 1.1 });
const row = (mode: string, kind: DivergenceRow["kind"], bytesPerToken: number): DivergenceRow => ({
  ...{ text: kind, kind, mode, bytesPerToken, positions: 500, kl: 0, klByPosition: [] },
  ...{ budgetTokens: 1, sameTopToken: 1, lossIncrease: 0, blocksPerToken: 9 },
  denseBytesPerToken: 10_000,
});

function reportOf(modes: Record<string, { bytes: number; holds: boolean }>) {
  return {
    contextTokens: 24_576,
    divergence: Object.entries(modes).flatMap(([mode, { bytes }]) => [
      row(mode, "given", bytes),
      row(mode, "retrieval", bytes + 100),
    ]),
    bar: Object.entries(modes).map(([mode, { holds }]) => ({
      mode,
      kl: { given: estimate(0.0123456), retrieval: estimate(0.02) },
      holds,
    })),
  };
}

test("the default is the cheapest of the budgets that hold, not another mode", () => {
  const report = reportOf({
    "uniform 32": { bytes: 100, holds: true },
    "profile, 1,024": { bytes: 500, holds: false },
    "profile, 4,096": { bytes: 2000, holds: true },
    "profile, 12 %": { bytes: 1500, holds: true },
  });
  expect(cheapestBudget(report, budgets)).toEqual({
    budget: { tokens: 1024, percent: 12 },
    measured: {
      contextTokens: 24_576,
      positions: 1000,
      kl: { given: estimate(0.0123456), retrieval: estimate(0.02) },
      bytesPerToken: 1550,
      denseBytesPerToken: 10_000,
    },
  });
});

test("there is none where no budget holds", () => {
  expect(cheapestBudget(reportOf({ "profile, 1,024": { bytes: 5, holds: false } }), budgets)).toBe(
    null,
  );
});

test("a profile that is written with it is read again with it", async () => {
  const folder = await mkdtemp(join(tmpdir(), "scholia-budget-"));
  try {
    const profile = await loadHeadProfile(join(shippedProfilesDir(), "smollm2-135m.json"));
    const report = reportOf({ "profile, 4,096": { bytes: 2000, holds: true } });
    const path = join(folder, "profile.json");
    await writeDefaultBudget(path, profile, cheapestBudget(report, budgets)!);
    const read = await loadHeadProfile(path);
    expect(read.defaultBudget?.budget).toEqual({ tokens: 4096, percent: 0 });
    expect(read.defaultBudget?.measured.kl.given.value).toBe(0.01235);
    expect({ ...read, defaultBudget: profile.defaultBudget }).toEqual(profile);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("every shipped profile is of a model of the catalog, and its default budget holds the bar", async () => {
  const files = await readdir(shippedProfilesDir());
  expect(files.sort()).toEqual([
    "qwen2.5-coder-0.5b.json",
    "qwen2.5-coder-1.5b.json",
    "smollm2-135m.json",
  ]);
  for (const file of files) {
    const { name, model, defaultBudget } = await loadHeadProfile(join(shippedProfilesDir(), file));
    expect(`${name}.json`).toBe(file);
    const { layers, kvHeads, headDim } = findModel(name);
    expect(model).toMatchObject({ layers, kvHeads, headDim });
    const { given, retrieval } = defaultBudget!.measured.kl;
    expect(given.high, file).toBeLessThan(qualityBar.given);
    expect(retrieval.high, file).toBeLessThan(qualityBar.retrieval);
  }
});
