import { describe, expect, test } from "vitest";
import { Engine } from "../../host/engine/engine.ts";
import { nativeAddon, smollm2, someTokens } from "./support.ts";

const open = () => Engine.open({ modelPath: smollm2, threads: 1, chunkTokens: 64 });

describe("close", () => {
  test("twice, at the same time and one after the other", async () => {
    const engine = await open();
    await Promise.all([engine.close(), engine.close()]);
    await engine.close();
  });

  test("before any model was opened", async () => {
    const engine = new (nativeAddon().Engine)();
    await engine.close();
    await engine.close();
    expect(() => engine.open({ modelPath: smollm2 })).toThrow("Engine.open: the engine is closed");
  });

  test("afterwards every call is refused", async () => {
    const engine = await open();
    await engine.close();
    const calls = [
      () => engine.memory(),
      () => engine.tokenize("a", false),
      () => engine.prefill(0, someTokens(3)),
      () => engine.generate(0),
      () => engine.stream(0).report,
    ];
    for (const call of calls) {
      await expect(call()).rejects.toMatchObject({
        name: "ScholiaError",
        code: "invalid_argument",
        message: expect.stringContaining("the engine is closed"),
      });
    }
  });

  test("stops the running job and rejects the waiting ones", async () => {
    const engine = await open();
    const sequence = await engine.createSequence();
    const running = Promise.withResolvers<void>();
    const calls = [
      engine.prefill(sequence, someTokens(7000), { onProgress: () => running.resolve() }),
      engine.tokenize("waits", false),
      engine.generate(sequence),
    ].map((call) => call.catch((error: { code: string }) => error.code));
    await running.promise;
    await engine.close();
    expect(await Promise.all(calls)).toEqual(["cancelled", "cancelled", "cancelled"]);
  });

  test("while the model loads", async () => {
    const engine = new (nativeAddon().Engine)();
    const codeOf = (error: { code: string }) => error.code;
    const opening = engine.open({ modelPath: smollm2 }).promise.then(() => "opened", codeOf);
    const queued = engine.memory().promise.then(() => "done", codeOf);
    const closing = engine.close();
    expect(await queued).toBe("cancelled");
    // Loading can't be stopped once it has begun.
    expect(["opened", "cancelled"]).toContain(await opening);
    await closing;
  });

  test("from a callback of its own job", async () => {
    const engine = await open();
    const sequence = await engine.createSequence();
    let closing: Promise<void> | undefined;
    const call = engine.prefill(sequence, someTokens(7000), {
      onProgress: () => {
        closing ??= engine.close();
      },
    });
    await expect(call).rejects.toMatchObject({ code: "cancelled" });
    await closing;
  });
});
