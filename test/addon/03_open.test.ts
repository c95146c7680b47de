import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ScholiaError } from "../../contract/errors.ts";
import { Engine } from "../../host/engine/engine.ts";
import { probeModel } from "../../host/engine/probeModel.ts";
import { nativeAddon, smollm2, useFolder } from "./support.ts";

const folder = useFolder();

describe("opening a model", () => {
  test("reports progress that grows to 1, and tells of model and device", async () => {
    const fractions: number[] = [];
    const engine = await Engine.open({
      modelPath: smollm2,
      device: "cpu",
      threads: 2,
      onProgress: (fraction) => fractions.push(fraction),
    });
    expect(fractions.at(-1)).toBe(1);
    expect(fractions).toEqual(fractions.toSorted((a, b) => a - b));
    expect(engine.model).toEqual(await probeModel(smollm2));
    expect(engine.device).toMatch(/^cpu \(.*2 threads/);
    expect(engine.bosToken).toBeGreaterThanOrEqual(0);
    const memory = await engine.memory();
    expect(memory.weightsBytes).toBeGreaterThan(0.9 * engine.model.fileBytes);
    expect(memory.kvBytes).toBe(0);
    expect(memory.kvPoolBytes).toBeGreaterThan(0);
    expect(memory.freeBytes).toBeGreaterThan(0);
    await engine.close();
  });

  test.each([
    ["a file that is not there", () => "/no/such.gguf", "model_not_found"],
    [
      "a file that is no model",
      () => {
        const path = join(folder(), "text.gguf");
        writeFileSync(path, "This is no model.");
        return path;
      },
      "model_broken",
    ],
  ])("%s", async (_name, path, code) => {
    const error = await Engine.open({ modelPath: path() }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ScholiaError);
    expect(error).toMatchObject({ code });
    // The same from the addon, without the probe before it.
    const engine = new (nativeAddon().Engine)();
    await expect(engine.open({ modelPath: path() }).promise).rejects.toMatchObject({ code });
    await engine.close();
  });

  test("a device that is not there", async () => {
    await expect(Engine.open({ modelPath: smollm2, device: "cuda" })).rejects.toMatchObject({
      code: "device_unavailable",
    });
  });

  test("settings that the engine can't have", async () => {
    await expect(Engine.open({ modelPath: smollm2, chunkTokens: 17 })).rejects.toMatchObject({
      code: "invalid_argument",
    });
  });

  test("after a failed open the same engine can be tried again; a second model is refused", async () => {
    const engine = new (nativeAddon().Engine)();
    await expect(engine.open({ modelPath: "/none" }).promise).rejects.toThrow();
    const { model } = await engine.open({ modelPath: smollm2 }).promise;
    expect(model.layers).toBe(30);
    await expect(engine.open({ modelPath: smollm2 }).promise).rejects.toMatchObject({
      code: "invalid_argument",
    });
    await engine.close();
  });

  test("a callback that throws ends the job with what it threw", async () => {
    const engine = new (nativeAddon().Engine)();
    const job = engine.open({ modelPath: smollm2 }, () => {
      throw new RangeError("from the callback");
    });
    await expect(job.promise).rejects.toThrow(new RangeError("from the callback"));
    await engine.close();
  });
});
