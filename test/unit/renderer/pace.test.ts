import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { encodeTrace } from "../../../contract/trace.ts";
import { Pace } from "../../../renderer/live/pace.ts";
import { Traces } from "../../../renderer/live/traces.ts";
import { traceFrame } from "./traceFrame.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Parts by the milliseconds at which they were shown, while all ask with every token of a fast answer. */
function shownIn(seconds: number) {
  const pace = new Pace();
  const shown: { part: string; at: number }[] = [];
  const begin = performance.now();
  while (performance.now() - begin < seconds * 1000) {
    for (const part of ["text", "maps", "charts"] as const)
      pace.ask(part, () => shown.push({ part, at: performance.now() - begin }));
    vi.advanceTimersByTime(5);
  }
  return shown;
}

describe("what an answer changes comes to the screen", () => {
  test("one part at a time, so that no frame has the work of two", () => {
    const times = shownIn(10).map(({ at }) => at);
    const gaps = times.slice(1).map((at, index) => at - times[index]!);
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(25);
  });

  test("each at its own pace, and none is kept waiting by the others", () => {
    const shown = shownIn(10);
    const count = (name: string) => shown.filter(({ part }) => part === name).length;
    for (const part of ["text", "maps"]) {
      expect(count(part)).toBeLessThanOrEqual(201);
      expect(count(part)).toBeGreaterThan(160);
    }
    expect(count("charts")).toBeLessThanOrEqual(26);
    expect(count("charts")).toBeGreaterThan(20);
  });

  test("at once after a pause, and a part that is due later holds up none", () => {
    const pace = new Pace();
    const shown: string[] = [];
    pace.ask("charts", () => shown.push("charts"));
    vi.advanceTimersByTime(30);
    pace.ask("charts", () => shown.push("charts again"));
    pace.ask("text", () => shown.push("text"));
    vi.advanceTimersByTime(1);
    expect(shown).toEqual(["charts", "text"]);
    vi.advanceTimersByTime(400);
    expect(shown).toEqual(["charts", "text", "charts again"]);
  });

  test("with what was asked for last, and not what was forgotten", () => {
    const pace = new Pace();
    const shown: string[] = [];
    pace.ask("text", () => shown.push("early"));
    pace.ask("text", () => shown.push("late"));
    pace.ask("maps", () => shown.push("maps"));
    pace.forget("maps");
    vi.advanceTimersByTime(1000);
    expect(shown).toEqual(["late"]);
  });

  test("a hundred steps of an answer draw the maps some twenty times a second", () => {
    const traces = new Traces(new Pace());
    traces.begin("turn");
    let maps = 0;
    let charts = 0;
    traces.subscribe("maps", () => maps++);
    traces.subscribe("charts", () => charts++);
    for (let step = 0; step < 100; step++) {
      traces.push(oneStep, 0);
      vi.advanceTimersByTime(10);
    }
    expect(maps).toBeGreaterThan(15);
    expect(maps).toBeLessThanOrEqual(21);
    expect(charts).toBeGreaterThan(1);
    expect(charts).toBeLessThanOrEqual(3);
  });
});

const oneStep = encodeTrace(traceFrame([4]));
