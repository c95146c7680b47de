import { describe, expect, test } from "vitest";
import { benchRowSchema } from "../../contract/bench.ts";
import { someTokens, useEngine } from "./support.ts";

const engine = useEngine();
const heads = 90;

describe("head profiles", () => {
  test("a new engine has the uniform one; another is taken and given back", async () => {
    const uniform = await engine().profile();
    expect(uniform.modelFingerprint).toBe("");
    expect(uniform.digest).toBe("mean_std");
    expect(uniform.blockTokens).toEqual(new Uint16Array(heads).fill(32));
    expect(uniform.budgetShare).toEqual(new Float32Array(heads).fill(1));

    const mixed = {
      modelFingerprint: engine().model.fingerprint,
      digest: "quest" as const,
      blockTokens: Array.from({ length: heads }, (_value, head) => 16 << (head % 4)),
      budgetShare: Array.from({ length: heads }, (_value, head) => (head % 2 ? 0.5 : 1.5)),
    };
    await engine().setProfile(mixed);
    const taken = await engine().profile();
    expect(taken.digest).toBe("quest");
    expect([...taken.blockTokens]).toEqual(mixed.blockTokens);
    expect([...taken.budgetShare]).toEqual(mixed.budgetShare);

    const sequence = await engine().createSequence();
    await engine().prefill(sequence, someTokens(700));
    const trace = await engine().decode(sequence, 504, { budgetTokens: 400, trace: "counts" });
    expect([...trace.blockTokens]).toEqual(mixed.blockTokens);
    await engine().release(sequence);
    await engine().setProfile(uniform);
  });

  const uniform = {
    modelFingerprint: "",
    digest: "mean_std" as const,
    blockTokens: new Uint16Array(heads).fill(32),
    budgetShare: new Float32Array(heads).fill(1),
  };
  test.each([
    ["of another model", { modelFingerprint: "0".repeat(64) }, "profile_mismatch"],
    ["of another shape", { blockTokens: [32], budgetShare: [1] }, "profile_mismatch"],
    ["with a block size of 48", { blockTokens: Array(heads).fill(48) }, "invalid_argument"],
    ["with shares of mean 2", { budgetShare: Array(heads).fill(2) }, "invalid_argument"],
    ["with a share that is no number", { budgetShare: Array(heads).fill(NaN) }, "invalid_argument"],
  ])("one %s is refused", async (_name, change, code) => {
    await expect(engine().setProfile({ ...uniform, ...change })).rejects.toMatchObject({ code });
    expect(await engine().profile()).toEqual(uniform);
  });
});

describe("measurements", () => {
  test("head errors: a number for each head, block size and budget", async () => {
    let chunks = 0;
    const errors = await engine().measureHeads(someTokens(1100), {
      tailTokens: 64,
      queries: 4,
      blockTokens: [16, 64],
      budgetTokens: [256, 512, 1024],
      onProgress: () => chunks++,
    });
    expect(chunks).toBeGreaterThan(0);
    expect([...errors.blockTokens]).toEqual([16, 64]);
    expect([...errors.budgetTokens]).toEqual([256, 512, 1024]);
    expect(errors.queries).toBe(4);
    expect(errors.outputError).toHaveLength(heads * 2 * 3);
    expect(errors.recall).toHaveLength(heads * 2 * 3);
    expect(errors.outputError.every((error) => error >= 0 && error < 10)).toBe(true);
    expect(errors.recall.every((recall) => recall > 0 && recall <= 1.001)).toBe(true);
    // More is read, less is missed: on average over the heads.
    const mean = (budget: number) => {
      let sum = 0;
      for (let head = 0; head < heads; head++) sum += errors.outputError[head * 6 + budget]!;
      return sum / heads;
    };
    expect(mean(2)).toBeLessThan(mean(0));
  });

  test("a measurement can be stopped", async () => {
    const controller = new AbortController();
    const call = engine().measureHeads(someTokens(4000), {
      tailTokens: 64,
      queries: 4,
      blockTokens: [32],
      budgetTokens: [256],
      signal: controller.signal,
      onProgress: () => controller.abort(),
    });
    await expect(call).rejects.toMatchObject({ code: "cancelled" });
  });

  test("bench rows are what the contract says, with libllama beside", async () => {
    const lines: string[] = [];
    const rows = await engine().bench(someTokens(200), {
      depths: [64],
      modes: ["dense", "ab-sparse"],
      repetitions: 1,
      decodeTokens: 2,
      peer: true,
      onProgress: ({ message }) => lines.push(message),
    });
    expect(rows.map((row) => benchRowSchema.parse(row))).toEqual(rows);
    expect(rows.map(({ what, mode }) => `${what} ${mode}`)).toEqual([
      "prefill dense",
      "decode dense",
      "decode ab-sparse",
    ]);
    for (const row of rows) {
      expect(row.ratio).toBeCloseTo(row.tokensPerSecond / row.peerTokensPerSecond!, 6);
      expect(row.bytesPerToken === null).toBe(row.what === "prefill");
    }
    expect(lines.length).toBeGreaterThan(0);

    const alone = await engine().bench(someTokens(200), {
      depths: [64],
      modes: ["dense"],
      repetitions: 1,
      decodeTokens: 2,
      prefill: false,
    });
    expect(alone).toHaveLength(1);
    expect(alone[0]).toMatchObject({ what: "decode", peerTokensPerSecond: null, ratio: null });
  });
});
