import { describe, expect, test } from "vitest";
import { errorCurves, histograms, sensitivityMap } from "../../../cli/headReport/charts.ts";
import { headReport } from "../../../cli/headReport/headReport.ts";
import { ticksUpTo } from "../../../cli/headReport/svg.ts";
import type { HeadCurves, HeadRow, HeadTable } from "../../../contract/heads.ts";

const sizes = [16, 32, 64, 128];
const row = (layer: number, kvHead: number, change: Partial<HeadRow>): HeadRow => ({
  layer,
  kvHead,
  blockTokens: 32,
  budgetShare: 1,
  outputError: 0.1,
  recall: 0.9,
  retrievalScore: null,
  sensitivity: 0.05,
  influence: null,
  ...change,
});
const heads = [
  row(0, 0, { blockTokens: 16, sensitivity: 0.4, budgetShare: 2.1 }),
  row(0, 1, { budgetShare: 0.26 }),
  row(1, 0, { budgetShare: 0.95 }),
  row(1, 1, { blockTokens: 128, sensitivity: -0.01, budgetShare: 0.55, outputError: 0.3 }),
];
const table: HeadTable = {
  model: "A <model> & more",
  fingerprint: "ab".repeat(32),
  profile: "made here",
  calibrated: true,
  layers: 2,
  kvHeads: 2,
  histogram: sizes.map((blockTokens) => ({
    blockTokens,
    heads: heads.filter((head) => head.blockTokens === blockTokens).length,
  })),
  reference: { contextTokens: 6144, budgetTokens: 1024 },
  defaultBudget: { budget: { tokens: 2048, percent: 0 }, measured: null },
  heads,
};
const curves: HeadCurves = {
  profile: table.profile,
  blockTokens: sizes,
  errorByBlock: heads.map((_, head) => sizes.map((_size, index) => 0.1 * (head + index + 1))),
  budgetTokens: [256, 512, 1024, 2048],
  errorByBudget: heads.map(() =>
    sizes.map((_, size) => [4, 3, 2, 1].map((n) => n / 10 + size / 100)),
  ),
  uniform: { outputError: 0.25, recall: 0.875 },
  bytesPerToken: 1_500_000,
  uniformBytesPerToken: 1_600_000,
  texts: [{ name: "manual.txt", kind: "retrieval", tokens: 6001 }],
};

const drawn = (svg: string, pattern: RegExp) => [...svg.matchAll(pattern)].map((match) => match[1]);
const labels = (svg: string) => drawn(svg, /<text[^>]*>([^<]*)<\/text>/g);

describe("the report of a calibration", () => {
  test("is a page that shows its charts, and the same bytes each time", () => {
    const files = headReport(table, curves);
    expect(headReport(table, curves)).toEqual(files);
    const [page, ...charts] = files;
    for (const { name, text } of charts) {
      expect(page!.text).toContain(`](${name})`);
      expect(text.startsWith("<svg ") && text.endsWith("</svg>\n")).toBe(true);
      expect(text).not.toMatch(/NaN|Infinity|undefined/);
    }
    expect(page!.text).toContain("| output error | 0.1500 | 0.2500 |");
    expect(page!.text).toContain("| read per token | 1.50 MB | 1.60 MB |");
    expect(page!.text).toContain("| manual.txt | retrieval | 6,001 |");
    expect(page!.text).not.toMatch(/## (Influence|Retrieval)/);
  });

  test("lists the most sensitive heads first, influence and retrieval where they were measured", () => {
    const scored = heads.map((head, index) => ({
      ...head,
      influence: 2 - index / 4,
      retrievalScore: index / 4,
    }));
    const [page] = headReport({ ...table, heads: scored }, curves);
    const [sensitivity, influence, retrieval] = page!.text.split(/## Influence|## Retrieval/);
    expect(sensitivity).toMatch(
      /most sensitive[^\n]*\n[^\n]*\n\| 0 \| 0 \| 0\.400 \| 16 \| 2\.10 \|/,
    );
    expect(influence).toMatch(/most influence[^\n]*\n[^\n]*\n\| 0 \| 0 \| 2\.000 \|/);
    expect(retrieval).toMatch(/highest score[^\n]*\n[^\n]*\n\| 1 \| 1 \| 0\.750 \|/);
  });

  test("draws a cell for each head, the darkest for the most sensitive", () => {
    const svg = sensitivityMap(table);
    expect(labels(svg).filter((label) => ["16", "32", "128"].includes(label!))).toEqual([
      "16",
      "32",
      "32",
      "128",
    ]);
    const fills = drawn(svg, /fill="(rgb[^"]*)"><title>layer/g);
    expect(fills[0]).toBe("rgb(16, 52, 110)");
    expect(fills[3]).toBe("rgb(243, 241, 236)");
    expect(svg).toContain("A &#60;model&#62; &#38; more");
  });

  test("counts every head once in each histogram", () => {
    const texts = labels(histograms(table));
    // After the axis a number and a name for each bar.
    const barsFrom = (first: number, bars: number) =>
      Array.from({ length: bars }, (_, bar) => texts.slice(first + 2 * bar, first + 2 * bar + 2));
    const [blocks, budgets] = texts.flatMap((text, at) => (text === "heads" ? [at + 1] : []));
    expect(barsFrom(blocks!, 4)).toEqual([
      ["1", "16"],
      ["2", "32"],
      ["0", "64"],
      ["1", "128"],
    ]);
    expect(barsFrom(budgets!, 9).map(([heads, share]) => `${heads} of ${share}`)).toEqual([
      "1 of ¼",
      "0 of ⅜",
      "1 of ½",
      "0 of ¾",
      "1 of 1",
      "0 of 1½",
      "1 of 2",
      "0 of 3",
      "0 of 4",
    ]);
  });

  test("draws a line for each head and one for each block size", () => {
    const svg = errorCurves(table, curves);
    expect(drawn(svg, /(stroke-opacity="0.25")/g)).toHaveLength(heads.length);
    expect(labels(svg)).toContain("blocks of 128");
    const without = errorCurves(table, { ...curves, budgetTokens: [], errorByBudget: [] });
    expect(labels(without)).not.toContain("blocks of 128");
  });
});

test.each([
  [0.42, [0, 0.1, 0.2, 0.3, 0.4, 0.5]],
  [68, [0, 20, 40, 60, 80]],
  [5, [0, 1, 2, 3, 4, 5]],
  [0.003, [0, 0.001, 0.002, 0.003]],
])("ticks up to %d", (most, expected) => {
  const ticks = ticksUpTo(most);
  expect(ticks).toHaveLength(expected.length);
  for (const [index, tick] of ticks.entries()) expect(tick).toBeCloseTo(expected[index]!, 9);
});
