import { describe, expect, test } from "vitest";
import { Engine, type PrefillProgress } from "../../host/engine/engine.ts";
import { smollm2, someTokens, useEngine } from "./support.ts";

const chunkTokens = 64;
const engine = useEngine({ chunkTokens });

describe("prefill", () => {
  test("reports each chunk, and what it found in memory the second time", async () => {
    const tokens = someTokens(300);
    const steps: PrefillProgress[] = [];
    const sequence = await engine().createSequence();
    const done = await engine().prefill(sequence, tokens, { onProgress: (at) => steps.push(at) });

    expect(steps.map((at) => at.doneTokens)).toEqual([0, 64, 128, 192, 256, 300]);
    expect(steps.at(-1)).toEqual(done);
    expect(done).toMatchObject({
      totalTokens: 300,
      depthTokens: 300,
      memoryTokens: 0,
      storeError: null,
    });
    expect(done.seconds).toBeGreaterThan(0);
    expect(done.tokensPerSecond).toBeGreaterThan(0);

    expect(await engine().cachedTokens(tokens)).toBeGreaterThanOrEqual(256);
    const again = await engine().createSequence();
    const cached = await engine().prefill(again, tokens);
    expect(cached.memoryTokens).toBeGreaterThanOrEqual(256);
    expect(cached.doneTokens).toBe(300);
    expect(await engine().sequenceKey(again)).toBe(await engine().sequenceKey(sequence));
    await engine().release(sequence);
    await engine().release(again);
  });

  test("computes several chunks at once where it is told to, under the same names", async () => {
    const tokens = someTokens(300, 3);
    const options = { modelPath: smollm2, threads: 1, chunkTokens, prefillStepTokens: 128 };
    const other = await Engine.open(options);
    const steps: number[] = [];
    const sequences = [await other.createSequence(), await engine().createSequence()] as const;
    await other.prefill(sequences[0], tokens, { onProgress: (at) => steps.push(at.doneTokens) });
    await engine().prefill(sequences[1], tokens);
    expect(steps).toEqual([0, 128, 256, 300]);
    expect(await other.sequenceKey(sequences[0])).toBe(await engine().sequenceKey(sequences[1]));
    await other.close();
    await engine().release(sequences[1]);
  });

  test("logits come from the last token and are the same bits every time", async () => {
    const tokens = someTokens(100, 7);
    const rows: Float32Array[] = [];
    for (let i = 0; i < 2; i++) {
      const sequence = await engine().createSequence();
      await engine().prefill(sequence, tokens);
      rows.push(await engine().logits());
      await engine().release(sequence);
    }
    expect(rows[0]).toHaveLength(engine().model.vocabulary);
    expect(rows[0]!.every(Number.isFinite)).toBe(true);
    expect(rows[1]).toEqual(rows[0]);

    const sequence = await engine().createSequence();
    const every = await engine().prefillLogits(sequence, tokens);
    expect(every).toHaveLength(tokens.length * engine().model.vocabulary);
    expect(every.every(Number.isFinite)).toBe(true);
    await engine().release(sequence);
  });

  test("its memory is told while it runs, and what is kept of it afterwards", async () => {
    const { kvBytes } = await engine().memory();
    const told: number[] = [];
    const sequence = await engine().createSequence();
    const reading = engine().prefill(sequence, someTokens(1500, 9), {
      onProgress: () => told.push(engine().memoryNow()!.kvBytes),
    });
    expect(engine().doing).toBe("prefill");
    await reading;
    expect(engine().doing).toBe("idle");
    // The first numbers may be from before this prefill: it tells them ten times a second.
    const own = told.slice(told.findIndex((bytes) => bytes !== told[0]));
    expect(own).toEqual(own.toSorted((a, b) => a - b));
    expect(own.at(-1)).toBeGreaterThan(own[0]!);
    const after = await engine().memory();
    expect(after.kvBytes).toBeGreaterThan(kvBytes);
    await engine().release(sequence);
    const released = await engine().memory();
    expect(released.kvBytes).toBe(kvBytes);
    expect(released.kvKeptBytes - after.kvKeptBytes).toBe(after.kvBytes - kvBytes);
  });

  test("without progress and options", async () => {
    const sequence = await engine().createSequence();
    expect((await engine().prefill(sequence, someTokens(1))).doneTokens).toBe(1);
    await engine().release(sequence);
  });

  test.each([
    ["an unknown sequence", 123_456, someTokens(3), "invalid_argument"],
    ["no token", 0, new Int32Array(0), "invalid_argument"],
    ["a negative token", 0, Int32Array.of(5, -1), "invalid_argument"],
    ["a token past the vocabulary", 0, Int32Array.of(49152), "invalid_argument"],
    ["more than the context", 0, someTokens(8193), "context_exceeded"],
  ])("%s is refused", async (_name, unknown, tokens, code) => {
    const sequence = await engine().createSequence();
    await expect(engine().prefill(unknown || sequence, tokens)).rejects.toMatchObject({ code });
    // The engine goes on.
    expect((await engine().prefill(sequence, someTokens(2))).doneTokens).toBe(2);
    await engine().release(sequence);
  });

  test("the array may change at once: it was copied", async () => {
    const tokens = someTokens(100, 9);
    const sequence = await engine().createSequence();
    const call = engine().prefill(sequence, tokens);
    const before = tokens.slice();
    tokens.fill(0);
    await call;
    expect(await engine().sequenceTokens(sequence)).toEqual(before);
    await engine().release(sequence);
  });
});
