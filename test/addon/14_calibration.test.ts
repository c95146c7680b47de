import { afterAll, describe, expect, test } from "vitest";
import { benchRowSchema } from "../../contract/bench.ts";
import { digestBits, digestKinds } from "../../contract/heads.ts";
import { measureInfluence } from "../../host/kv/influence.ts";
import { type DigestFormat, headReading } from "../../host/kv/readCost.ts";
import { uniformProfile } from "../../host/models/headProfile.ts";
import { pairedInterval } from "../../host/quality/intervals.ts";
import { repositoryText, someTokens, useEngine } from "./support.ts";

const engine = useEngine();
const heads = 90;

describe("head profiles", () => {
  test("a new engine has the uniform one; another is taken and given back", async () => {
    const uniform = await engine().profile();
    expect(uniform.modelFingerprint).toBe("");
    expect(uniform.digest).toBe("mean_std");
    expect(uniform.digestBits).toBe(4);
    expect(uniform.blockTokens).toEqual(new Uint16Array(heads).fill(32));
    expect(uniform.budgetShare).toEqual(new Float32Array(heads).fill(1));

    const mixed = {
      modelFingerprint: engine().model.fingerprint,
      digest: "quest" as const,
      digestBits: 8 as const,
      blockTokens: Array.from({ length: heads }, (_value, head) => 16 << (head % 4)),
      budgetShare: Array.from({ length: heads }, (_value, head) => (head % 2 ? 0.5 : 1.5)),
    };
    await engine().setProfile(mixed);
    const taken = await engine().profile();
    expect(taken.digest).toBe("quest");
    expect(taken.digestBits).toBe(8);
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
    digestBits: 4 as const,
    blockTokens: new Uint16Array(heads).fill(32),
    budgetShare: new Float32Array(heads).fill(1),
  };
  test.each([
    ["of another model", { modelFingerprint: "0".repeat(64) }, "profile_mismatch"],
    ["of another shape", { blockTokens: [32], budgetShare: [1] }, "profile_mismatch"],
    ["with a block size of 48", { blockTokens: Array(heads).fill(48) }, "invalid_argument"],
    ["with shares of mean 2", { budgetShare: Array(heads).fill(2) }, "invalid_argument"],
    ["with digests of 5 bits", { digestBits: 5 as 4 }, "invalid_argument"],
    ["with a share that is no number", { budgetShare: Array(heads).fill(NaN) }, "invalid_argument"],
  ])("one %s is refused", async (_name, change, code) => {
    await expect(engine().setProfile({ ...uniform, ...change })).rejects.toMatchObject({ code });
    expect(await engine().profile()).toEqual(uniform);
  });
});

describe("digests", () => {
  const formats = digestKinds.flatMap((digest) =>
    digestBits.map((digestBits) => ({ digest, digestBits })),
  );
  const useDigest = (format: DigestFormat) =>
    engine().setProfile({ ...uniformProfile(engine().model), ...format });
  afterAll(() => engine().setProfile(uniformProfile(engine().model)));

  test("a step reads as many bytes of them as is counted beforehand, in every kind and width", async () => {
    const read = await engine().createSequence();
    await engine().prefill(read, someTokens(2500), { wantLogits: false });
    for (const format of formats) {
      await useDigest(format);
      const fork = await engine().fork(read);
      const step = await engine().decode(fork, 504, { budgetTokens: 512, trace: "counts" });
      const { digestBytes } = headReading(32, 512, 2501, engine().model.headDim, format);
      expect(digestBytes).toBeGreaterThan(0);
      expect(step.digestBytes).toBe(heads * digestBytes);
      await engine().release(fork);
    }
    await engine().release(read);
  });

  test("INT4 misses what unquantised ones miss; INT2 misses more", async () => {
    const tokens = (await engine().tokenize(repositoryText, false)).slice(0, 3000);
    expect(tokens).toHaveLength(3000);
    const missed: Record<number, Float64Array> = {};
    for (const digestBits of [2, 4, 16] as const) {
      await useDigest({ digest: "mean_std", digestBits });
      const { recall } = await engine().measureHeads(tokens, {
        tailTokens: 256,
        queries: 48,
        blockTokens: [16],
        budgetTokens: [512],
      });
      missed[digestBits] = recall.map((share) => 1 - share);
    }
    // Measured: 0.0032 (0.0015 to 0.0048) for INT2, 0.0001 (-0.0002 to 0.0004) for INT4.
    const moreThanUnquantised = (bits: number) =>
      pairedInterval(
        [...missed[bits]!].map((share, head) => [share - missed[16]![head]!]),
        1,
      );
    const [int2, int4] = [moreThanUnquantised(2), moreThanUnquantised(4)];
    expect(int2.low).toBeGreaterThan(0);
    expect(Math.abs(int4.low)).toBeLessThan(int2.value / 2);
    expect(Math.abs(int4.high)).toBeLessThan(int2.value / 2);
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

  test("retrieval: a share of the copies for each query head", async () => {
    const document = someTokens(600);
    // The end says a stretch of the document again.
    const tokens = new Int32Array(632);
    tokens.set(document);
    tokens.set(document.subarray(300, 332), 600);
    const positions = Int32Array.from({ length: 24 }, (_, index) => 606 + index);
    const sources = positions.map((position) => position - 299);
    const scores = await engine().measureRetrieval(tokens, { positions, sources });
    expect(scores).toHaveLength(30 * 9);
    expect(scores.every((score) => score >= 0 && score <= 1)).toBe(true);
    // Some head copies; the token before the source is another question.
    expect(Math.max(...scores)).toBeGreaterThan(0.5);
    const beside = sources.map((source) => source - 40);
    const chance = await engine().measureRetrieval(tokens, { positions, sources: beside });
    expect(Math.max(...chance)).toBeLessThan(Math.max(...scores) / 2);

    for (const wrong of [
      { positions: Int32Array.of(5, 4), sources: Int32Array.of(1, 1) },
      { positions: Int32Array.of(5), sources: Int32Array.of(6) },
      { positions: Int32Array.of(632), sources: Int32Array.of(6) },
      { positions: Int32Array.of(5), sources: Int32Array.of(1, 2) },
      { positions: new Int32Array(0), sources: new Int32Array(0) },
    ]) {
      await expect(engine().measureRetrieval(tokens, wrong)).rejects.toMatchObject({
        code: "invalid_argument",
      });
    }
  });

  test("the stages of a decode step, with their bytes", async () => {
    const sequence = await engine().createSequence();
    await engine().prefill(sequence, someTokens(700));
    const timing = await engine().timeSteps(sequence, { budgetTokens: 400, steps: 2 });
    expect(timing).toMatchObject({ depthTokens: 703, steps: 2 });
    expect(timing.bytesPerSecond).toBeGreaterThan(1e8);
    expect(timing.stages).toHaveLength(2 + 4 * 30);
    expect(timing.stages.slice(0, 5).map(({ stage, layer }) => `${stage} ${layer}`)).toEqual([
      "embed 0",
      "attention_in 0",
      "attend 0",
      "attention_out 0",
      "feed_forward 0",
    ]);
    expect(timing.stages.at(-1)).toMatchObject({ stage: "logits", layer: 0 });
    const dense = await engine().timeSteps(sequence, { mode: "dense", steps: 1 });
    const attended = ({ stages }: typeof timing) =>
      stages.filter(({ stage }) => stage === "attend").reduce((sum, { bytes }) => sum + bytes, 0);
    expect(attended(timing)).toBeLessThan(attended(dense));
    expect(await engine().sequenceTokens(sequence)).toHaveLength(700);
    await engine().release(sequence);
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

  describe("comparing a tail", () => {
    const modes = () =>
      [256, 4096].map((budgetTokens) => ({
        profile: uniformProfile(engine().model),
        budgetTokens,
      }));

    test("gives numbers for each position and mode, and what was read", async () => {
      const sequence = await engine().createSequence();
      await engine().prefill(sequence, someTokens(1500), { wantLogits: false });
      const done: number[] = [];
      const [sparse, whole] = await engine().compareTail(sequence, someTokens(12, 2), modes(), {
        onProgress: ({ doneTokens }) => done.push(doneTokens),
      });
      expect(done).toEqual([12]);
      expect(sparse!.kl).toHaveLength(12);
      expect(Math.min(...sparse!.kl)).toBeGreaterThan(0);
      expect(sparse!.sameTop).toHaveLength(12);
      expect(sparse!.lossIncrease).toHaveLength(11);
      expect(sparse!.blocks).toBeGreaterThan(0);
      expect(sparse!.kvBytes + sparse!.digestBytes).toBeLessThan(sparse!.denseBytes / 2);
      expect(whole).toEqual({
        kl: new Float64Array(12),
        sameTop: new Uint8Array(12).fill(1),
        lossIncrease: new Float64Array(11),
        blocks: whole!.blocks,
        kvBytes: whole!.denseBytes,
        digestBytes: 0,
        denseBytes: sparse!.denseBytes,
      });
      await engine().release(sequence);
    });

    test("can let one head alone read little", async () => {
      const sequence = await engine().createSequence();
      await engine().prefill(sequence, someTokens(1500), { wantLogits: false });
      const [every] = modes();
      const alone = Array.from({ length: heads }, (_, onlyHead) => ({ ...every!, onlyHead }));
      const compared = await engine().compareTail(sequence, someTokens(2, 2), [every!, ...alone]);
      const [together, ...each] = compared;
      // What they leave unread, one after the other, is what they leave unread together.
      const unread = each.map(({ denseBytes, kvBytes }) => denseBytes - kvBytes);
      expect(Math.min(...unread)).toBeGreaterThan(0);
      expect(unread.reduce((sum, bytes) => sum + bytes, 0)).toBe(
        together!.denseBytes - together!.kvBytes,
      );
      expect(Math.max(...each.map(({ kl }) => kl[0]!))).toBeLessThan(together!.kl[0]!);
      await engine().release(sequence);
    });

    test("a head that the model does not have is refused", async () => {
      const sequence = await engine().createSequence();
      await engine().prefill(sequence, someTokens(600), { wantLogits: false });
      const mode = { ...modes()[0]!, onlyHead: heads };
      await expect(engine().compareTail(sequence, someTokens(1), [mode])).rejects.toMatchObject({
        code: "invalid_argument",
        message: expect.stringContaining("90"),
      });
      await engine().release(sequence);
    });

    test("stops at the next token", async () => {
      const sequence = await engine().createSequence();
      await engine().prefill(sequence, someTokens(1500), { wantLogits: false });
      const controller = new AbortController();
      const call = engine().compareTail(sequence, someTokens(5000, 2), modes(), {
        signal: controller.signal,
      });
      setTimeout(() => controller.abort(), 50);
      await expect(call).rejects.toMatchObject({ code: "cancelled" });
      await engine().release(sequence);
    });

    test("modes must be modes", () => {
      const compare = (modes: unknown) => () =>
        engine().compareTail(0, someTokens(1), modes as never);
      return expect(compare([{ ...modes()[0]!, budgetTokens: 0 }])()).rejects.toMatchObject({
        code: "invalid_argument",
        message: expect.stringContaining("modes[0].budgetTokens"),
      });
    });
  });

  test("influence: a divergence for each position and head, the same each time", async () => {
    const text = { tokens: someTokens(900), tailTokens: 64 };
    const stretches = { count: 2, tokens: 1 };
    const done: [number, number][] = [];
    const divergence = await measureInfluence(engine(), text, 256, {
      stretches,
      onProgress: (...now) => done.push(now),
    });
    expect(done).toEqual([
      [1, 2],
      [2, 2],
    ]);
    expect(divergence).toHaveLength(2);
    for (const position of divergence) {
      expect(position).toHaveLength(heads);
      expect(Math.min(...position)).toBeGreaterThan(0);
    }
    expect(await measureInfluence(engine(), text, 256, { stretches })).toEqual(divergence);
    // The profile is as it was.
    expect((await engine().profile()).blockTokens).toEqual(new Uint16Array(heads).fill(32));
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
