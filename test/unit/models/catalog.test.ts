import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { modelsDir } from "../../../host/models/cache.ts";
import {
  catalog,
  findModel,
  kvBytesPerToken,
  modelPath,
  parseCatalog,
  weightBytes,
} from "../../../host/models/catalog.ts";
import { defaultModel, fitsMemory, thisMachine } from "../../../host/models/defaultModel.ts";

const copy = () => structuredClone(catalog);

describe("the catalog", () => {
  test("is refused when it contradicts itself", () => {
    const twice = copy();
    twice.models.push(twice.models[0]!);
    expect(() => parseCatalog(twice)).toThrow("two models have one id");
    const unknown = copy();
    unknown.defaults.push({ id: "nobody", minCores: 1 });
    expect(() => parseCatalog(unknown)).toThrow("a default is not in the list");
    const short = copy();
    const wheels = short.models.at(-1)?.sources[0];
    if (wheels?.kind === "wheel") wheels.parts[0]!.bytes -= 1;
    expect(() => parseCatalog(short)).toThrow("do not add up");
  });

  test("is refused with a field too many, a path as id or a checksum that is none", () => {
    expect(() => parseCatalog({ ...copy(), more: 1 })).toThrow();
    for (const wrong of [{ id: "../x" }, { sha256: "abc" }, { layers: 0 }, { sources: [] }]) {
      const broken = copy();
      Object.assign(broken.models[0]!, wrong);
      expect(() => parseCatalog(broken), JSON.stringify(wrong)).toThrow();
    }
  });

  test("an unknown model is answered with those that are known", () => {
    expect(() => findModel("gpt")).toThrow(
      expect.objectContaining({
        code: "model_unknown",
        message: expect.stringContaining("smollm2-135m"),
      }),
    );
  });

  test("sizes follow the shapes", () => {
    expect(kvBytesPerToken(findModel("qwen2.5-coder-0.5b"))).toBe(24 * 2 * 64 * 4);
    expect(weightBytes(findModel("smollm2-135m"))).toBe(98_362_432);
    const estimate = weightBytes(findModel("qwen3-8b"));
    expect(estimate).toBeGreaterThan(4.8e9);
    expect(estimate).toBeLessThan(5.3e9);
  });
});

describe("the default model", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "scholia-default-"));
    vi.stubEnv("SCHOLIA_CACHE", folder);
  });
  afterEach(() => {
    vi.unstubAllEnvs();
    rmSync(folder, { recursive: true });
  });

  const large = { memoryBytes: 64e9, cores: 16 };
  const open = { hubReachable: async () => true };
  const closed = { hubReachable: async () => false };
  const chosen = async (machine: typeof large, options: typeof open) =>
    (await defaultModel(machine, options)).model.id;

  function download(id: string): void {
    mkdirSync(modelsDir(), { recursive: true });
    writeFileSync(modelPath(id), "");
  }

  test("on an open network: the best that the memory and the processor carry", async () => {
    expect(await chosen(large, open)).toBe("qwen2.5-7b-instruct-1m");
    expect(await chosen({ memoryBytes: 16e9, cores: 4 }, open)).toBe("qwen3-4b-instruct-2507");
    expect(await chosen({ memoryBytes: 64e9, cores: 2 }, open)).toBe("qwen2.5-coder-0.5b");
    expect(await chosen({ memoryBytes: 4e9, cores: 16 }, open)).toBe("qwen2.5-coder-0.5b");
  });

  test("on a closed network: the best that comes without the hub", async () => {
    expect(await chosen(large, closed)).toBe("qwen2.5-coder-0.5b");
  });

  test("a model that is here wins, and then nobody is asked", async () => {
    download("qwen2.5-coder-1.5b");
    const hubReachable = vi.fn(async () => true);
    expect(await defaultModel(large, { hubReachable })).toMatchObject({
      model: { id: "qwen2.5-coder-1.5b" },
      downloaded: true,
    });
    expect(hubReachable).not.toHaveBeenCalled();
  });

  test("a model for tests is never chosen, nor one that is here and does not fit", async () => {
    download("smollm2-135m");
    download("qwen3-8b");
    expect(await chosen({ memoryBytes: 4e9, cores: 2 }, closed)).toBe("qwen2.5-coder-0.5b");
  });

  test("a machine too small for any is told so", async () => {
    await expect(defaultModel({ memoryBytes: 1e9, cores: 2 }, open)).rejects.toMatchObject({
      code: "model_not_found",
      message: expect.stringContaining("1.0 GB"),
    });
  });

  test("this machine has memory and cores", () => {
    const machine = thisMachine();
    expect(machine.cores).toBeGreaterThan(0);
    expect(machine.memoryBytes).toBeGreaterThan(1e8);
    expect(fitsMemory(findModel("smollm2-135m"), { ...machine, memoryBytes: 4e9 })).toBe(true);
  });
});
