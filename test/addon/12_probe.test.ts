import { copyFileSync, readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { mkdir, readdir, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { ScholiaError } from "../../contract/errors.ts";
import { Engine } from "../../host/engine/engine.ts";
import { probeModel } from "../../host/engine/probeModel.ts";
import { cacheDir } from "../../host/models/cache.ts";
import {
  type Change,
  ggufStart,
  setCount,
  setDimension,
  setFloat32,
  setTensorOffset,
  setTensorType,
  setUint32,
  valueType,
  writeChanged,
} from "./gguf.ts";
import { smollm2, useFolder } from "./support.ts";

const folder = useFolder();

/** Probes are kept in the cache: these go to one of their own, with the real one's libraries. */
const cacheBefore = process.env.SCHOLIA_CACHE;
beforeAll(async () => {
  const cache = join(folder(), "cache");
  await mkdir(cache);
  await symlink(join(cacheDir(), "native"), join(cache, "native"));
  process.env.SCHOLIA_CACHE = cache;
});
afterAll(() => {
  if (cacheBefore === undefined) delete process.env.SCHOLIA_CACHE;
  else process.env.SCHOLIA_CACHE = cacheBefore;
});
const probes = () => readdir(join(folder(), "cache", "probes"));

async function errorOf(path: string, options = {}): Promise<ScholiaError> {
  const error: unknown = await probeModel(path, options).then(
    (model) => new Error(`${path} was taken for the model ${model.name}`),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof ScholiaError)) throw error;
  return error;
}

/** The process that has this argument. */
function processWith(argument: string): number | undefined {
  const ids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  const found = ids.find((id) => {
    try {
      return readFileSync(`/proc/${id}/cmdline`, "utf8").split("\0").includes(argument);
    } catch {
      return false; // it has ended
    }
  });
  return found === undefined ? undefined : Number(found);
}

const wrongFile = (name: string, content: Uint8Array): string => {
  const path = join(folder(), name);
  writeFileSync(path, content);
  return path;
};

describe("a model that can be read", () => {
  test("is described", async () => {
    const model = await probeModel(smollm2);
    expect(model).toMatchObject({
      path: smollm2,
      architecture: "llama",
      layers: 30,
      queryHeads: 9,
      kvHeads: 3,
      headDim: 64,
      vocabulary: 49152,
      contextTokens: 8192,
    });
    expect(model.fingerprint).toMatch(/^[0-9a-f]{64}$/);
  });

  test("is looked at once, and again when the file, or what was kept, has changed", async () => {
    const path = join(folder(), "copy.gguf");
    copyFileSync(smollm2, path);
    const first = await probeModel(path);
    const before = (await probes()).length;
    // No process could answer in a millisecond, so this one comes from the cache.
    expect(await probeModel(path, { timeoutMs: 1 })).toEqual(first);
    expect((await probes()).length).toBe(before);

    utimesSync(path, new Date(), new Date(Date.now() + 5000));
    expect((await errorOf(path, { timeoutMs: 1 })).message).toContain("not read within");
    expect(await probeModel(path)).toEqual(first);

    for (const entry of await probes()) {
      writeFileSync(join(folder(), "cache", "probes", entry), '{"identity":');
    }
    expect(await probeModel(path)).toEqual(first);
    await rm(path);
    expect((await errorOf(path)).code).toBe("model_not_found");
  });

  test("is not held for broken when Ctrl+C ends its reader", async () => {
    const path = join(folder(), "interrupted.gguf");
    copyFileSync(smollm2, path);
    const kept = await probes();
    const error = errorOf(path);
    let reader: number | undefined;
    await vi.waitUntil(() => (reader = processWith(path)));
    process.kill(reader!, "SIGINT");
    expect((await error).code).toBe("cancelled");
    expect(await probes()).toEqual(kept);
    expect((await probeModel(path)).layers).toBe(30);
    await rm(path);
  });

  test("has one fingerprint whatever its name", async () => {
    const path = join(folder(), "other-name.gguf");
    copyFileSync(smollm2, path);
    expect((await probeModel(path)).fingerprint).toBe((await probeModel(smollm2)).fingerprint);
    await rm(path);
  });
});

describe("what is no model", () => {
  test.each([
    ["nothing there", () => join(folder(), "none.gguf")],
    ["a folder", () => folder()],
    ["a device", () => "/dev/zero"],
  ])("%s: model_not_found", async (_name, path) => {
    expect((await errorOf(path())).code).toBe("model_not_found");
  });

  test("a time limit that is over: model_broken, and not for ever", async () => {
    const path = wrongFile("slow.gguf", new Uint8Array(100));
    const kept = await probes();
    const error = await errorOf(path, { timeoutMs: 1 });
    expect(error.code).toBe("model_broken");
    expect(error.message).toContain("not read within 0.001 s");
    expect(await probes()).toEqual(kept);
  });

  const random = (bytes: number) =>
    Uint8Array.from({ length: bytes }, (_value, i) => (Math.imul(i + 1, 2654435761) >>> 13) & 255);
  const oneValue = (key: string, type: number) => ggufStart(0, 1).text(key).u32(type);
  const oneTensor = (dimensions: number, sizes: bigint[], type = 0) => {
    const bytes = ggufStart(1, 1).text("general.architecture").u32(valueType.string).text("llama");
    bytes.text("token_embd.weight").u32(dimensions);
    for (const size of sizes) bytes.u64(size);
    return bytes.u32(type).u64(0).zeros(4096);
  };
  const huge = 1n << 62n;

  const files: Record<string, () => Uint8Array> = {
    "an empty file": () => new Uint8Array(0),
    "random bytes": () => random(100_000),
    "the magic alone": () => Buffer.from("GGUF"),
    "a model cut in half": () => readFileSync(smollm2).subarray(0, 49_181_216),
    "a model cut in its header": () => readFileSync(smollm2).subarray(0, 500_000),
    "version 0": () => ggufStart(0, 0, 0).done(),
    "version 99": () => ggufStart(0, 0, 99).done(),
    "a header without values": () => ggufStart(0, 0).done(),
    "2^62 values": () => ggufStart(0, huge).zeros(100).done(),
    "2^64 - 1 values": () =>
      ggufStart(0, (1n << 64n) - 1n)
        .zeros(100)
        .done(),
    "2^62 tensors": () => ggufStart(huge, 0).zeros(100).done(),
    "2^31 tensors": () =>
      ggufStart(1n << 31n, 0)
        .zeros(100)
        .done(),
    "a key of 2^62 bytes": () => ggufStart(0, 1).u64(huge).zeros(100).done(),
    "a text of 2^40 bytes": () =>
      oneValue("a", valueType.string)
        .u64(1n << 40n)
        .done(),
    "a text of 2^64 - 1 bytes": () =>
      oneValue("a", valueType.string)
        .u64((1n << 64n) - 1n)
        .done(),
    "an array of 2^62 numbers": () =>
      oneValue("a", valueType.array).u32(valueType.uint32).u64(huge).zeros(100).done(),
    "an array of 2^40 texts": () =>
      oneValue("a", valueType.array)
        .u32(valueType.string)
        .u64(1n << 40n)
        .zeros(100)
        .done(),
    "an array of arrays": () =>
      oneValue("a", valueType.array).u32(valueType.array).u64(1).zeros(100).done(),
    "a value of an unknown type": () => oneValue("a", 77).zeros(100).done(),
    "a key twice": () =>
      ggufStart(0, 2).text("a").u32(4).u32(1).text("a").u32(4).u32(2).zeros(100).done(),
    "an alignment of 0": () =>
      oneValue("general.alignment", valueType.uint32).u32(0).zeros(100).done(),
    "an alignment of 3": () =>
      oneValue("general.alignment", valueType.uint32).u32(3).zeros(100).done(),
    "an alignment that is a text": () =>
      oneValue("general.alignment", valueType.string).text("32").zeros(100).done(),
    "an architecture that is a number": () =>
      oneValue("general.architecture", valueType.uint32).u32(7).zeros(100).done(),
    "a tensor of 1,000 dimensions": () => oneTensor(1000, []).done(),
    "a tensor of no dimension": () => oneTensor(0, []).done(),
    "a tensor of 2^63 elements": () => oneTensor(1, [1n << 63n]).done(),
    "a tensor whose size wraps around": () => oneTensor(2, [1n << 32n, 1n << 32n]).done(),
    "a tensor of no element": () => oneTensor(2, [0n, 16n]).done(),
    "a tensor of an unknown type": () => oneTensor(1, [16n], 200).done(),
    "only a tensor": () => oneTensor(1, [16n]).done(),
  };

  test.each(Object.entries(files))("%s is refused", async (name, content) => {
    const path = wrongFile(`${name.replaceAll(/\W+/g, "-")}.gguf`, content());
    const error = await errorOf(path, { timeoutMs: 20_000 });
    expect(["model_broken", "model_unsupported"]).toContain(error.code);
    expect(error.message).not.toContain("not read within");
    expect(error.message.length).toBeLessThan(600);
  });

  test("a million values: the time limit ends it", async () => {
    const bytes = ggufStart(0, 1_000_000);
    for (let i = 0; i < 1_000_000; i++) bytes.text(`k${i}`).u32(valueType.uint32).u32(i);
    const error = await errorOf(wrongFile("million.gguf", bytes.done()), { timeoutMs: 1000 });
    expect(error.code).toBe("model_broken");
    expect(error.message).toContain("not read within 1 s");
  });
});

describe("a real header with one value changed", () => {
  const changes: Record<string, Change[]> = {
    "no layer": [setUint32("llama.block_count", 0)],
    "2^31 - 1 layers": [setUint32("llama.block_count", 2 ** 31 - 1)],
    "2^32 - 1 layers": [setUint32("llama.block_count", 2 ** 32 - 1)],
    "no query head": [setUint32("llama.attention.head_count", 0)],
    "2^32 - 1 query heads": [setUint32("llama.attention.head_count", 2 ** 32 - 1)],
    "no KV head": [setUint32("llama.attention.head_count_kv", 0)],
    "KV heads that don't divide the query heads": [setUint32("llama.attention.head_count_kv", 2)],
    "more KV heads than query heads": [setUint32("llama.attention.head_count_kv", 18)],
    "no embedding": [setUint32("llama.embedding_length", 0)],
    "an embedding of 2^31": [setUint32("llama.embedding_length", 2 ** 31)],
    "no feed forward": [setUint32("llama.feed_forward_length", 0)],
    "no context": [setUint32("llama.context_length", 0)],
    "a rotation of no dimension": [setUint32("llama.rope.dimension_count", 0)],
    "a rotation of 2^32 - 1 dimensions": [setUint32("llama.rope.dimension_count", 2 ** 32 - 1)],
    "a rotation base that is no number": [setFloat32("llama.rope.freq_base", Number.NaN)],
    "an epsilon that is no number": [
      setFloat32("llama.attention.layer_norm_rms_epsilon", Number.NaN),
    ],
    "a vocabulary of 2^60 tokens": [setCount("tokenizer.ggml.tokens", 1n << 60n)],
    "a vocabulary of no token": [setCount("tokenizer.ggml.tokens", 0n)],
    "merges of 2^60": [setCount("tokenizer.ggml.merges", 1n << 60n)],
    "a tensor of 2^62 rows": [setDimension("blk.0.attn_q.weight", 1, 1n << 62n)],
    "a tensor that is one row short": [setDimension("blk.0.attn_q.weight", 1, 575n)],
    "a tensor with rows that end within a block": [setDimension("blk.0.attn_q.weight", 0, 575n)],
    "a tensor of an unknown type": [setTensorType("blk.3.ffn_up.weight", 4_000_000)],
    "a tensor behind the end of the file": [setTensorOffset("blk.3.ffn_up.weight", 1n << 40n)],
    "a tensor whose end wraps around": [setTensorOffset("blk.3.ffn_up.weight", (1n << 64n) - 32n)],
    "a tensor that is not aligned": [setTensorOffset("blk.3.ffn_up.weight", 33n)],
  };

  test("unchanged, it is read", async () => {
    const path = join(folder(), "unchanged.gguf");
    writeChanged(smollm2, path, []);
    expect((await probeModel(path)).layers).toBe(30);
  });

  test.each(Object.entries(changes))("%s is refused", async (name, list) => {
    const path = join(folder(), `changed-${name.replaceAll(/\W+/g, "-")}.gguf`);
    writeChanged(smollm2, path, list);
    const error = await errorOf(path, { timeoutMs: 20_000 });
    expect(["model_broken", "model_unsupported"]).toContain(error.code);
    expect(error.message).not.toContain("not read within");
    // Opening it in this process stops at the probe.
    await expect(Engine.open({ modelPath: path })).rejects.toMatchObject({ code: error.code });
    await rm(path);
  });
});

describe("what a header does not show", () => {
  test.each([
    ["one layer too many", setUint32("llama.block_count", 31)],
    ["an embedding of another length", setUint32("llama.embedding_length", 577)],
  ])("%s: found on opening", async (name, change) => {
    const path = join(folder(), `${name.replaceAll(" ", "-")}.gguf`);
    writeChanged(smollm2, path, [change]);
    await expect(Engine.open({ modelPath: path })).rejects.toMatchObject({ code: "model_broken" });
    await rm(path);
  });
});

test("probing leaves no unfinished file", async () => {
  await mkdir(join(folder(), "cache", "probes"), { recursive: true });
  expect((await probes()).filter((name) => !name.endsWith(".json"))).toEqual([]);
});
