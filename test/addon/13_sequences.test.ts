import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Engine } from "../../host/engine/engine.ts";
import { smollm2, someTokens, useEngine, useFolder } from "./support.ts";

const engine = useEngine({ chunkTokens: 64 });
const folder = useFolder();

describe("sequences", () => {
  test("a fork goes its own way and shares pages", async () => {
    const trunk = await engine().createSequence();
    await engine().prefill(trunk, someTokens(256));
    const { kvBytes } = await engine().memory();
    const branch = await engine().fork(trunk);
    expect((await engine().memory()).kvBytes).toBe(kvBytes);
    await engine().decode(branch, 504);
    expect(await engine().sequenceTokens(branch)).toHaveLength(257);
    expect(await engine().sequenceTokens(trunk)).toHaveLength(256);
    await engine().release(trunk);
    expect(await engine().sequenceTokens(branch)).toHaveLength(257);
    await engine().release(branch);
  });

  test("truncate cuts generated text anywhere and a prompt at a chunk's end", async () => {
    const sequence = await engine().createSequence();
    await engine().prefill(sequence, someTokens(200));
    for (let i = 0; i < 3; i++) await engine().decode(sequence, 504 + i);
    expect(await engine().truncate(sequence, 202)).toBe(202);
    expect(await engine().truncate(sequence, 150)).toBe(128);
    expect(await engine().sequenceTokens(sequence)).toEqual(someTokens(128));
    await engine().release(sequence);
  });

  test("a released sequence is unknown", async () => {
    const sequence = await engine().createSequence();
    await engine().release(sequence);
    const calls = [
      engine().fork(sequence),
      engine().truncate(sequence, 0),
      engine().sequenceTokens(sequence),
      engine().sequenceKey(sequence),
      engine().storedRuns(sequence),
    ];
    for (const call of calls) {
      await expect(call).rejects.toMatchObject({ code: "invalid_argument" });
    }
  });

  test("a saved read is found by another engine", async () => {
    const storeDir = join(folder(), "store");
    const options = { modelPath: smollm2, threads: 1, chunkTokens: 64, storeDir };
    const tokens = someTokens(400, 3);
    const first = await Engine.open(options);
    const sequence = await first.createSequence();
    expect((await first.prefill(sequence, tokens, { persist: true })).storeError).toBeNull();
    const key = await first.sequenceKey(sequence);
    const runs = await first.storedRuns(sequence);
    expect(runs.length).toBeGreaterThan(0);
    for (const run of runs) expect(existsSync(run)).toBe(true);
    const logits = await first.logits();
    await first.close();

    const second = await Engine.open(options);
    const again = await second.createSequence();
    const report = await second.prefill(again, tokens);
    expect(report.diskTokens).toBeGreaterThanOrEqual(384 - 64);
    expect(await second.sequenceKey(again)).toBe(key);
    expect(await second.logits()).toEqual(logits);
    await second.close();
  });
});
