import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Engine } from "../../../host/engine/engine.ts";
import { memoryMap, weightsNode } from "../../../host/engine/memoryMap.ts";
import { modelPath } from "../../../host/models/catalog.ts";
import { ggufTensors } from "../../../host/models/ggufTensors.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "scholia-gguf-"));
});
afterAll(() => rm(folder, { recursive: true }));

const model = modelPath("smollm2-135m");

describe("tensors of a model's file", () => {
  test("are all there, and fill the file after its header", async () => {
    const tensors = (await ggufTensors(model))!;
    // 30 layers of nine tensors, embeddings and the last norm.
    expect(tensors).toHaveLength(272);
    const sum = tensors.reduce((bytes, tensor) => bytes + tensor.bytes, 0);
    expect(sum).toBeGreaterThan(90e6);
    expect(sum).toBeLessThan(99e6);
    const down = tensors.find(({ name }) => name === "blk.0.ffn_down.weight")!;
    // 1,536 × 576 weights in Q4_1: 20 bytes for 32.
    expect(down.bytes).toBe((1536 * 576 * 20) / 32);
  });

  test("of what is no GGUF, or a broken one, are unknown", async () => {
    const path = join(folder, "a.gguf");
    for (const content of ["", "GGUF", "no model at all, just words and more words"]) {
      await writeFile(path, content);
      expect(await ggufTensors(path)).toBeNull();
    }
    const header = Buffer.alloc(64);
    header.write("GGUF");
    header.writeUInt32LE(3, 4);
    header.writeBigUInt64LE(2n ** 63n, 8);
    await writeFile(path, header);
    expect(await ggufTensors(path)).toBeNull();
    header.writeBigUInt64LE(1n, 8);
    header.writeBigUInt64LE(1n, 16);
    header.writeBigUInt64LE(2n ** 40n, 24);
    await writeFile(path, header);
    await truncate(path, 100);
    expect(await ggufTensors(path)).toBeNull();
  });
});

describe("the map of memory", () => {
  const sumOf = (nodes: { bytes: number }[] = []) =>
    nodes.reduce((sum, { bytes }) => sum + bytes, 0);

  test("shares the weights out by layer and names the rest", () => {
    const node = weightsNode(100, [
      { name: "token_embd.weight", bytes: 40 },
      { name: "blk.10.attn_q.weight", bytes: 5 },
      { name: "blk.2.attn_q.weight", bytes: 20 },
      { name: "blk.2.ffn_up.weight", bytes: 25 },
    ]);
    expect(node.bytes).toBe(100);
    expect(node.children?.map(({ name, bytes }) => [name, bytes])).toEqual([
      ["Embeddings and output", 40],
      ["layer 2", 45],
      ["layer 10", 5],
      ["Padding and conversion", 10],
    ]);
    expect(node.children?.[1]?.children).toMatchObject([{ name: "attn_q" }, { name: "ffn_up" }]);
    // What the engine holds is less than the file: no part is made up.
    expect(weightsNode(10, [{ name: "a", bytes: 11 }])).toEqual({
      name: "Weights",
      kind: "weights",
      bytes: 10,
    });
  });

  test("adds up in every node", () => {
    const engine = {
      device: "cpu",
      model: { name: "m", fingerprint: "f", layers: 3, kvHeads: 2 },
    } as unknown as Engine;
    const report = {
      weightsBytes: 1000,
      kvBytes: 600,
      kvKeptBytes: 40,
      kvPoolBytes: 900,
      digestBytes: 30,
      workspaceBytes: 70,
      freeBytes: 1e6,
    };
    const { root } = memoryMap({ engine, report }, null, []);
    const check = (node: typeof root) => {
      if (node.children === undefined) return;
      expect(sumOf(node.children)).toBeCloseTo(node.bytes, 6);
      for (const child of node.children) check(child);
    };
    check(root);
    const kv = root.children?.find(({ kind }) => kind === "kv");
    expect(kv?.children).toHaveLength(3);
    expect(kv?.children?.[0]?.children?.map(({ bytes }) => bytes)).toEqual([100, 100]);
    expect(root.children?.find(({ kind }) => kind === "kept")?.bytes).toBe(40);
    expect(memoryMap(null, null, []).model).toBeNull();
  });

  test("counts what lies on a device of its own beside the process", () => {
    const model = { name: "m", fingerprint: "f", layers: 1, kvHeads: 1 };
    const report = {
      weightsBytes: 4e12,
      kvBytes: 0,
      kvKeptBytes: 0,
      kvPoolBytes: 0,
      digestBytes: 0,
      workspaceBytes: 0,
      freeBytes: 5e12,
    };
    const on = (device: string) =>
      memoryMap({ engine: { device, model } as unknown as Engine, report }, null, []).root;
    const named = (root: ReturnType<typeof on>, name: string) =>
      root.children?.find((child) => child.name === name)?.bytes;
    // More than any machine holds: of the processor's it would leave the process nothing.
    const rest = "Host process";
    expect(named(on("cuda (H100)"), "Free on the device")).toBe(5e12);
    expect(named(on("cuda (H100)"), rest)).toBeGreaterThan(named(on("cpu (zen4)"), rest)!);
    expect(named(on("cpu (zen4)"), "Free on the device")).toBeUndefined();
  });
});
