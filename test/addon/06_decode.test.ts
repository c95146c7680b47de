import { describe, expect, test } from "vitest";
import { englishText, someTokens, useEngine } from "./support.ts";

const engine = useEngine();
const heads = 30 * 3;

describe("decode", () => {
  test("appends the token and leaves the logits of the next", async () => {
    const sequence = await engine().createSequence();
    await engine().prefill(sequence, someTokens(40));
    const before = await engine().logits();
    expect(await engine().decode(sequence, 504)).toBeNull();
    expect((await engine().sequenceTokens(sequence)).at(-1)).toBe(504);
    expect(await engine().sequenceTokens(sequence)).toHaveLength(41);
    const after = await engine().logits();
    expect(after.every(Number.isFinite)).toBe(true);
    expect(after).not.toEqual(before);
    await engine().release(sequence);
  });

  test("counts: one buffer for all arrays, one number for each head", async () => {
    const sequence = await engine().createSequence();
    await engine().prefill(sequence, someTokens(600));
    const trace = await engine().decode(sequence, 504, { budgetTokens: 300, trace: "counts" });
    expect(trace.depthTokens).toBe(601);
    expect(trace.blockTokens).toEqual(new Uint16Array(heads).fill(32));
    expect(trace.blocks).toHaveLength(heads);
    expect(trace.tokensRead).toHaveLength(heads);
    const arrays = [trace.blockTokens, trace.blocks, trace.tokensRead];
    expect(new Set(arrays.map((array) => array.buffer)).size).toBe(1);
    expect(trace.blocks.buffer.byteLength).toBe(heads * (2 + 4 + 4));
    expect(trace).not.toHaveProperty("mass");

    const readPerHead = trace.tokensRead.reduce((sum, tokens) => sum + tokens) / heads;
    expect(readPerHead).toBeGreaterThan(200);
    expect(readPerHead).toBeLessThanOrEqual(300);
    // Keys and values of 64 channels in 2 bytes.
    expect(trace.kvBytes).toBe(readPerHead * heads * 2 * 64 * 2);
    expect(trace.denseBytes).toBe(601 * heads * 2 * 64 * 2);
    expect(trace.digestBytes).toBeGreaterThan(0);
    await engine().release(sequence);
  });

  test("mass: the shares of the blocks read, head by head", async () => {
    const sequence = await engine().createSequence();
    await engine().prefill(sequence, someTokens(600));
    const trace = await engine().decode(sequence, 504, { budgetTokens: 300, trace: "mass" });
    expect(trace.blockOffset).toHaveLength(heads + 1);
    expect(trace.blockIndex).toHaveLength(trace.blockOffset.at(-1)!);
    expect(trace.mass).toHaveLength(trace.blockIndex.length);
    for (let head = 0; head < heads; head++) {
      const [start, end] = [trace.blockOffset[head]!, trace.blockOffset[head + 1]!];
      expect(end - start).toBe(trace.blocks[head]);
      const blocks = [...trace.blockIndex.subarray(start, end)];
      expect(new Set(blocks).size).toBe(blocks.length);
      expect(Math.max(...blocks)).toBe(Math.floor(600 / 32)); // the newest is always read
      expect(Math.min(...blocks)).toBe(0); // and the first
      const sum = trace.mass.subarray(start, end).reduce((total, share) => total + share, 0);
      expect(sum).toBeCloseTo(1, 3);
    }
    await engine().release(sequence);
  });

  test("AB-Sparse with a budget of the whole context gives the bits of dense", async () => {
    const sequence = await engine().createSequence();
    await engine().prefill(sequence, await engine().tokenize(englishText, false));
    const rows: Float32Array[] = [];
    for (const mode of ["dense", "ab-sparse"] as const) {
      const fork = await engine().fork(sequence);
      await engine().decode(fork, 504, { mode, budgetTokens: 8192 });
      rows.push(await engine().logits());
      await engine().release(fork);
    }
    expect(rows[1]).toEqual(rows[0]);
    await engine().release(sequence);
  });

  test.each([
    ["an unknown sequence", 99_999, 5],
    ["a token that the model does not have", 0, 49152],
  ])("%s is refused", async (_name, unknown, token) => {
    const sequence = await engine().createSequence();
    await engine().prefill(sequence, someTokens(5));
    await expect(engine().decode(unknown || sequence, token)).rejects.toMatchObject({
      code: "invalid_argument",
    });
    await engine().release(sequence);
  });
});
