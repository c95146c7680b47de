import { describe, expect, test } from "vitest";
import type { MemorySample } from "../../../contract/memory.ts";
import type { StageTime } from "../../../contract/timing.ts";
import { rateCurve } from "../../../renderer/draw/chart.ts";
import { drawStepBars, floorSeconds, stepColumns } from "../../../renderer/draw/stepBars.ts";
import { SvgSurface } from "../../../renderer/draw/surface.ts";
import { stackOf } from "../../../renderer/features/memory/MemoryTimeline.tsx";
import { needAt } from "../../../renderer/features/memory/need.ts";

const stages: StageTime[] = [
  { stage: "embed", layer: 0, seconds: 0.001, bytes: 0 },
  { stage: "attention_in", layer: 0, seconds: 0.002, bytes: 4e6 },
  { stage: "attend", layer: 0, seconds: 0.003, bytes: 2e6 },
  { stage: "attention_in", layer: 1, seconds: 0.002, bytes: 4e6 },
  { stage: "attend", layer: 1, seconds: 0.001, bytes: 1e6 },
  { stage: "logits", layer: 0, seconds: 0.004, bytes: 8e6 },
];

describe("a decode step as columns", () => {
  test("has one for each layer, and one for what belongs to none", () => {
    const columns = stepColumns(stages, 1e9);
    expect(columns.map(({ name }) => name)).toEqual(["embed", "0", "1", "logits"]);
    expect(columns.map(({ floorSeconds }) => floorSeconds)).toEqual([0, 0.006, 0.005, 0.008]);
    expect(columns[1]?.parts).toEqual([
      { stage: "attention_in", seconds: 0.002 },
      { stage: "attend", seconds: 0.003 },
    ]);
    expect(floorSeconds(stages, null)).toBeNull();
  });

  test("is drawn: a bar for each stage of each layer, a line for each floor that is known", () => {
    const style = { ink: "#111111", inkSoft: "#222222", hairline: "#eeeeee" };
    const drawn = (bytesPerSecond: number | null) => {
      const surface = new SvgSurface(300, 120);
      const columns = stepColumns(stages, bytesPerSecond);
      drawStepBars(surface, columns, 300, 120, style, { unit: "ms" });
      return surface.toString();
    };
    const count = (svg: string, colour: string) => svg.split(colour).length - 1;
    expect(count(drawn(1e9), "<rect")).toBe(stages.length);
    expect(count(drawn(1e9), style.ink)).toBe(4);
    expect(count(drawn(null), style.ink)).toBe(0);
  });
});

describe("the curve of rates over depth", () => {
  test("runs between the depths that were measured, by the time of a token", () => {
    const measured = [1000, 5000, 9000].map((depth) => ({
      depth,
      tokensPerSecond: 1 / (0.01 + 1e-6 * depth),
    }));
    const curve = rateCurve(measured);
    expect([curve[0]?.x, curve.at(-1)?.x]).toEqual([1000, 9000]);
    const middle = curve.find(({ x }) => x === 5000);
    expect(middle?.y).toBeCloseTo(1 / 0.015, 6);
    expect(rateCurve(measured.slice(0, 1))).toEqual([]);
    expect(rateCurve([])).toEqual([]);
  });
});

test("what a model needs grows with the context by its keys, values and digests", () => {
  const estimate = {
    model: { name: "m", fingerprint: "f", contextTokens: 8192 },
    profile: "p",
    weightsBytes: 100,
    workspaceBytes: null,
    kvBytesPerToken: 4,
    digestBytesPerToken: 0.5,
    availableBytes: 1000,
  };
  expect(needAt(estimate, 10)).toMatchObject({ bytes: 145, kvBytes: 40, digestBytes: 5 });
  expect(needAt({ ...estimate, workspaceBytes: 7 }, 0).bytes).toBe(107);
});

test("the memory timeline stacks all that the engine holds, kept reads too", () => {
  const sample = (seconds: number, kvBytes: number): MemorySample => ({
    at: new Date(1000 * seconds).toISOString(),
    weightsBytes: 100,
    kvBytes,
    kvKeptBytes: 20,
    digestBytes: 5,
    workspaceBytes: 10,
    freeBytes: 1e9,
    doing: "prefill",
  });
  const { areas, most, seconds } = stackOf([sample(0, 0), sample(2, 65)], 50, 200);
  expect({ most, seconds, parts: areas.length }).toEqual({ most: 200, seconds: 2, parts: 5 });
  // The topmost outline ends at the full height, where all parts stand on one another.
  const tops = areas.map(({ outline }) => Math.min(...outline.map(({ y }) => y)));
  expect(Math.min(...tops)).toBe(0);
});
