import { describe, expect, test } from "vitest";
import { prefillSeconds, rateAtDepth } from "../../../host/prefill/preflight.ts";
import { PrefillRates } from "../../../host/prefill/rateRecorder.ts";
import { dataFolder } from "../store/folder.ts";

const folder = dataFolder();
const model = { name: "m", fingerprint: "f", device: "cpu" };

/** A machine that takes 2 ms for a token and 1 µs more for each token before it. */
const machine = (depth: number) => ({ depth, tokensPerSecond: 1 / (0.002 + 1e-6 * depth) });

describe("the time of a read", () => {
  test("is unknown without measurements", () => {
    expect(prefillSeconds([], 0, 1000)).toBeNull();
    expect(rateAtDepth([], 1000)).toBeNull();
    expect(prefillSeconds([], 1000, 1000)).toBe(0);
  });

  test("follows the line through the measurements, also beyond them", () => {
    const measured = [0, 2000, 4000].map(machine);
    // ∫ 0.002 + 1e-6 d over [0, 10,000] = 20 + 50
    expect(prefillSeconds(measured, 0, 10_000)).toBeCloseTo(70, 6);
    // ∫ over [4,000, 10,000] = 12 + 42
    expect(prefillSeconds(measured, 4000, 10_000)).toBeCloseTo(54, 6);
    expect(rateAtDepth(measured, 8000)).toBeCloseTo(100, 6);
  });

  test("is flat where all measurements are of one depth, and never promises more than was seen", () => {
    expect(prefillSeconds([machine(1000), machine(1100)], 0, 1000)).toBeCloseTo(3.05, 2);
    // Noise that falls with depth.
    const noisy = [
      { depth: 0, tokensPerSecond: 100 },
      { depth: 8000, tokensPerSecond: 200 },
    ];
    expect(prefillSeconds(noisy, 0, 1000)).toBeCloseTo(7.5, 6);
    // A line that would be below zero at the start.
    const steep = [
      { depth: 4000, tokensPerSecond: 1000 },
      { depth: 8000, tokensPerSecond: 100 },
    ];
    expect(rateAtDepth(steep, 0)).toBeCloseTo(1000, 6);
  });
});

describe("measured rates", () => {
  test("are taken from the progress of a prefill, chunk by chunk, thinned", async () => {
    const { rates } = await folder.open();
    const heard = new PrefillRates();
    const report = {
      phase: "prefill",
      total: 1,
      unit: "tokens",
      seconds: 1,
      secondsLeft: 1,
    } as const;
    heard.progress({ ...report, done: 1024, rate: null });
    for (let chunk = 1; chunk <= 40; chunk++) {
      heard.progress({ ...report, done: 1024 + 512 * chunk, rate: 100 + chunk });
    }
    heard.progress({ ...report, phase: "model", done: 1, rate: 5 });
    heard.record(rates, model);
    const kept = rates.of("f", "cpu", "prefill");
    expect(kept.length).toBeGreaterThan(8);
    expect(kept.length).toBeLessThanOrEqual(16);
    expect(kept.at(-1)).toMatchObject({ depth: 1024 + 256, tokensPerSecond: 101, tokens: 512 });
    expect(rates.of("f", "cuda", "prefill")).toEqual([]);
  });

  test("of a few tokens say nothing, and old ones make room", async () => {
    const { rates } = await folder.open();
    const rate = { model, device: "cpu", what: "dense", budgetTokens: null, depth: 10 } as const;
    rates.add({ ...rate, tokensPerSecond: 5, tokens: 3 });
    rates.add({ ...rate, tokensPerSecond: 0, tokens: 100 });
    expect(rates.list()).toEqual([]);
    for (let at = 1; at <= 210; at++) rates.add({ ...rate, tokensPerSecond: at, tokens: 100 });
    const kept = rates.of("f", "cpu", "dense");
    expect([kept.length, kept[0]?.tokensPerSecond, kept.at(-1)?.tokensPerSecond]).toEqual([
      200, 210, 11,
    ]);
  });
});
