import { describe, expect, test } from "vitest";
import type { NativeEngine } from "../../host/engine/addon.ts";
import { nativeAddon, smollm2, someTokens, useEngine } from "./support.ts";

const engine = useEngine();

/** Prefills thousands of tokens and returns when the first chunk is done. */
async function longPrefill(native: NativeEngine, sequence: number) {
  const progress = { doneTokens: 0 };
  const started = Promise.withResolvers<void>();
  const job = native.prefill(sequence, someTokens(7000), {}, ({ doneTokens }) => {
    progress.doneTokens = doneTokens;
    if (doneTokens > 0) started.resolve();
  });
  const ended = job.promise.then(
    () => "done",
    (error: { code: string }) => error.code,
  );
  await Promise.race([started.promise, ended]);
  return { id: job.id, ended, progress };
}

async function withNative(use: (native: NativeEngine) => Promise<void>, chunkTokens = 64) {
  const native = new (nativeAddon().Engine)();
  await native.open({ modelPath: smollm2, threads: 1, chunkTokens }).promise;
  await use(native);
  await native.close();
}

describe("cancel", () => {
  test("reaches a prefill within a layer", () =>
    withNative(async (native) => {
      // Chunks of 512 tokens: the default, with the longest layers.
      const waits: number[] = [];
      for (let i = 0; i < 5; i++) {
        const sequence = await native.createSequence().promise;
        const { id, ended } = await longPrefill(native, sequence);
        await new Promise((resolve) => setTimeout(resolve, 17 * i));
        const start = performance.now();
        expect(native.cancel(id)).toBe(true);
        expect(await ended).toBe("cancelled");
        waits.push(performance.now() - start);
        await native.release(sequence).promise;
      }
      console.log(`cancel to end: ${waits.map((ms) => ms.toFixed(1)).join(", ")} ms`);
      // 250 ms are the aim; a machine full of other work gets four times that.
      expect(Math.min(...waits)).toBeLessThan(250);
      expect(Math.max(...waits)).toBeLessThan(1000);
    }, 512));

  test("a queued job rejects at once and never runs", () =>
    withNative(async (native) => {
      const sequence = await native.createSequence().promise;
      const other = await native.createSequence().promise;
      const running = await longPrefill(native, sequence);
      let ran = false;
      const queued = native.prefill(other, someTokens(3), {}, () => {
        ran = true;
      });
      const after = native.memory();
      expect(native.cancel(queued.id)).toBe(true);
      await expect(queued.promise).rejects.toMatchObject({ code: "cancelled" });
      expect(native.cancel(running.id)).toBe(true); // so it was still running
      expect(await running.ended).toBe("cancelled");
      await after.promise;
      expect(ran).toBe(false);
      await expect(native.sequenceTokens(other).promise).resolves.toHaveLength(0);
    }));

  test("an ended or unknown job is no longer there to cancel", () =>
    withNative(async (native) => {
      const job = native.memory();
      await job.promise;
      expect(native.cancel(job.id)).toBe(false);
      expect(native.cancel(123_456)).toBe(false);
    }));

  test("what was done in whole chunks is found again, and the answer is the same", () =>
    withNative(async (native) => {
      const tokens = someTokens(1000, 5);
      const stopped = await native.createSequence().promise;
      let done = 0;
      const job = native.prefill(stopped, tokens, {}, ({ doneTokens }) => {
        done = doneTokens;
        if (doneTokens >= 256) native.cancel(job.id);
      });
      await expect(job.promise).rejects.toMatchObject({ code: "cancelled" });
      await native.release(stopped).promise;

      const continued = await native.createSequence().promise;
      const report = await native.prefill(continued, tokens).promise;
      expect(report.memoryTokens).toBeGreaterThanOrEqual(256);
      expect(report.memoryTokens).toBeGreaterThanOrEqual(done - 64);
      const resumed = await native.logits().promise;

      const fresh = new (nativeAddon().Engine)();
      await fresh.open({ modelPath: smollm2, threads: 1, chunkTokens: 64 }).promise;
      await fresh.prefill(await fresh.createSequence().promise, tokens).promise;
      expect(await fresh.logits().promise).toEqual(resumed);
      await fresh.close();
    }));
});

describe("a signal", () => {
  test("stops a running prefill", async () => {
    const sequence = await engine().createSequence();
    const controller = new AbortController();
    const call = engine().prefill(sequence, someTokens(7000), {
      signal: controller.signal,
      onProgress: () => controller.abort(),
    });
    await expect(call).rejects.toMatchObject({ name: "ScholiaError", code: "cancelled" });
    await engine().release(sequence);
  });

  test("that was aborted before keeps the call from the queue", async () => {
    const sequence = await engine().createSequence();
    const call = engine().prefill(sequence, someTokens(5), { signal: AbortSignal.abort() });
    await expect(call).rejects.toMatchObject({ code: "cancelled" });
    expect(await engine().sequenceTokens(sequence)).toHaveLength(0);
    await engine().release(sequence);
  });

  test("that is aborted after the end does nothing", async () => {
    const controller = new AbortController();
    const sequence = await engine().createSequence();
    await engine().prefill(sequence, someTokens(5), { signal: controller.signal });
    controller.abort();
    expect(await engine().sequenceTokens(sequence)).toHaveLength(5);
    await engine().release(sequence);
  });
});
