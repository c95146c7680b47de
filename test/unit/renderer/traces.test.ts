import { describe, expect, test } from "vitest";
import type { HeadTable } from "../../../contract/heads.ts";
import { encodeTrace } from "../../../contract/trace.ts";
import { headsCsv, headsJson } from "../../../renderer/features/heads/exports.ts";
import {
  formatMetric,
  metricScale,
  metricValues,
} from "../../../renderer/features/heads/metrics.ts";
import { Pace } from "../../../renderer/live/pace.ts";
import { bytesByHead, readingOf, Traces } from "../../../renderer/live/traces.ts";
import { traceFrame } from "./traceFrame.ts";

describe("traces of an answer", () => {
  test("keep the last step, the mean over all, and each head's history", () => {
    const traces = new Traces(new Pace());
    traces.begin("turn");
    traces.push(encodeTrace(traceFrame([4, 2], [0, 1])), 0);
    traces.push(encodeTrace(traceFrame([8, 3], [1, 0])), 2);
    expect(traces.latest?.blocksRead).toEqual(Uint16Array.from([8, 3]));
    expect([...traces.mean()!].map((value) => Math.round(value * 10) / 10)).toEqual([0.5, 0.5]);
    expect(traces.historyOf(0)).toEqual([4, 8]);
    expect(traces.historyOf(1)).toEqual([2, 3]);
    expect([traces.steps, traces.dropped]).toEqual([4, 2]);
    traces.begin("next");
    expect([traces.latest, traces.mean(), traces.historyOf(0)]).toEqual([null, null, []]);
  });

  test("hold the last 1,024 steps of a long answer, in order", () => {
    const traces = new Traces(new Pace());
    traces.begin("turn");
    for (let step = 0; step < 1500; step++) traces.push(encodeTrace(traceFrame([step, 1])), 0);
    const history = traces.historyOf(0);
    expect(history).toHaveLength(1024);
    expect(history[0]).toBe(476);
    expect(history.at(-1)).toBe(1499);
  });

  test("refuse what is no trace", () => {
    expect(() => new Traces(new Pace()).push(Uint8Array.from([9, 9]), 0)).toThrow(RangeError);
  });

  test("share the bytes out by the tokens that each head read", () => {
    // 4 blocks of 16 and 1 of 32: two to one.
    expect([...bytesByHead(traceFrame([4, 1]))]).toEqual([4000, 2000]);
  });
});

const table: HeadTable = {
  model: "A model",
  fingerprint: "f",
  profile: "p",
  calibrated: true,
  layers: 1,
  kvHeads: 2,
  histogram: [],
  reference: null,
  defaultBudget: { budget: { tokens: 2048, percent: 0 }, measured: null },
  heads: [
    {
      layer: 0,
      kvHead: 0,
      blockTokens: 16,
      budgetShare: 1.5,
      outputError: 0.01,
      recall: 0.9,
      retrievalScore: 0.6,
      sensitivity: 0.2,
      influence: 1.25,
    },
    {
      layer: 0,
      kvHead: 1,
      blockTokens: 32,
      budgetShare: 0.5,
      outputError: null,
      recall: null,
      retrievalScore: null,
      sensitivity: null,
      influence: null,
    },
  ],
};

describe("numbers of the heads", () => {
  test("of the profile and of the last step", () => {
    const source = { table, curves: null, against: null, reading: traceFrame([4, 1]) };
    expect(metricValues("blockTokens", source)).toEqual([16, 32]);
    expect(metricValues("recall", source)).toEqual([0.9, null]);
    expect(metricValues("blocksRead", source)).toEqual([4, 1]);
    expect(metricValues("bytesRead", source)).toEqual([4000, 2000]);
  });

  test("a trace of another model is not taken for this one's", () => {
    const source = { table, curves: null, against: null, reading: traceFrame([4, 1, 1]) };
    expect(metricValues("blocksRead", source)).toEqual([null, null]);
  });

  const curves = {
    profile: "p",
    blockTokens: [16, 32, 64, 128],
    errorByBlock: [
      [0.01, 0.03, 0.05, 0.09],
      [0.1, 0.2, 0.3, 0.4],
    ],
    budgetTokens: [],
    errorByBudget: [],
    uniform: { outputError: 0.1, recall: 0.8 },
    bytesPerToken: 15_000_000,
    uniformBytesPerToken: 15_000_000,
    texts: [],
  };

  test("what AB-Sparse saves against blocks of 32 for all", () => {
    const saved = metricValues("errorSaved", { table, curves, against: null, reading: null });
    expect(saved[0]).toBeCloseTo(0.02);
    expect(saved[1]).toBeNull();
  });

  test("the difference of two profiles: doublings of the block size, errors of the measurement", () => {
    const uniform = table.heads.map((head) => ({
      ...head,
      blockTokens: 32,
      budgetShare: 1,
      outputError: null,
      recall: null,
    }));
    const against = { ...table, calibrated: false, heads: uniform };
    const source = { table, curves, against, reading: traceFrame([4, 1]) };
    expect(metricValues("blockTokens", source)).toEqual([-1, 0]);
    expect(metricValues("budgetShare", source)).toEqual([0.5, -0.5]);
    expect(metricValues("outputError", source)[0]).toBeCloseTo(-0.02);
    expect(metricValues("recall", source)).toEqual([null, null]);
    expect(metricValues("blocksRead", source)).toEqual([4, 1]);
    expect(metricScale("blockTokens", [-1, 0], true)).toMatchObject({ least: -1, most: 1 });
    expect(formatMetric("blockTokens", 1, true)).toBe("+1");
  });

  test("the mass kept, of the step at which it was last measured", () => {
    const traces = new Traces(new Pace());
    traces.begin("turn");
    traces.push(encodeTrace({ ...traceFrame([4, 2]), massKept: Float32Array.of(1, 0.2) }), 0);
    traces.push(encodeTrace(traceFrame([4, 2])), 3);
    traces.push(encodeTrace({ ...traceFrame([4, 2]), massKept: Float32Array.of(1, 0.4) }), 1);
    traces.push(encodeTrace(traceFrame([4, 2])), 0);
    const source = { table, curves: null, against: null, reading: traces.latest };
    expect(metricValues("massKept", source).map((share) => share?.toFixed(1))).toEqual([
      "1.0",
      "0.4",
    ]);
    expect(traces.massHistory().map(({ step }) => step)).toEqual([0, 6]);
    traces.begin("next");
    expect(traces.massHistory()).toEqual([]);
  });

  test("of an answer of before are its means", () => {
    const heads = {
      blockTokens: [16, 32],
      blocksRead: Float32Array.of(4, 1),
      kvBytes: 6000,
      keptSteps: [0, 16],
      massKept: Float32Array.of(1, 0.25, 0.5, 0.75),
    };
    const source = { table, curves: null, against: null, reading: readingOf(heads) };
    expect(metricValues("massKept", source)).toEqual([0.75, 0.5]);
    expect(metricValues("bytesRead", source)).toEqual([4000, 2000]);
    const unmeasured = readingOf({ ...heads, keptSteps: [], massKept: new Float32Array(0) });
    expect(metricValues("massKept", { ...source, reading: unmeasured })).toEqual([null, null]);
  });

  test("scales reach from the least to the largest value; differences have two even sides", () => {
    expect(metricScale("outputError", [0.1, null, 0.4])).toMatchObject({ least: 0, most: 0.4 });
    expect(metricScale("sensitivity", [-0.1, 0.3])).toMatchObject({ least: -0.3, most: 0.3 });
    expect(metricScale("recall", [0.9, 0.7])).toMatchObject({ least: 0.7, most: 0.9 });
  });

  test("tables for other programs hold every number once", () => {
    const source = { table, curves: null, against: null, reading: traceFrame([4, 1]) };
    const csv = headsCsv(source).trim().split("\n");
    expect(csv[0]).toBe(
      "layer,kvHead,blockTokens,budgetShare,outputError,recall,retrievalScore,sensitivity,influence,errorSaved,bytesRead,blocksRead,massKept",
    );
    expect(csv[1]).toBe("0,0,16,1.5,0.01,0.9,0.6,0.2,1.25,,4000,4,");
    expect(csv[2]).toBe("0,1,32,0.5,,,,,,,2000,1,");
    const json = JSON.parse(headsJson({ ...source, reading: null }));
    expect(json.heads[1]).toMatchObject({ layer: 0, kvHead: 1, blockTokens: 32, recall: null });
  });
});
