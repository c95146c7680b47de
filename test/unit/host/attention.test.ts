import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { decodeTrace, traceMaxBytes } from "../../../contract/trace.ts";
import { AttentionMap, type MassTrace, pageMasses } from "../../../host/answer/attention.ts";
import { citingHeads } from "../../../host/answer/citingHeads.ts";
import { type BlocksTrace, traceFrame } from "../../../host/answer/traceFrame.ts";
import { loadHeadProfile, shippedProfilesDir } from "../../../host/models/headProfile.ts";

/** A trace of heads that read these blocks with these masses. */
function trace(
  depthTokens: number,
  heads: { blockTokens: number; blocks: [index: number, mass: number][] }[],
): BlocksTrace & MassTrace {
  const offsets = [0];
  for (const head of heads) offsets.push(offsets.at(-1)! + head.blocks.length);
  const all = heads.flatMap((head) => head.blocks);
  return {
    depthTokens,
    blockTokens: Uint16Array.from(heads, (head) => head.blockTokens),
    blocks: Uint32Array.from(heads, (head) => head.blocks.length),
    blockOffset: Uint32Array.from(offsets),
    blockIndex: Uint32Array.from(all, ([index]) => index),
    mass: Float32Array.from(all, ([, mass]) => mass),
    kvBytes: 1,
    digestBytes: 2,
    denseBytes: 3,
    massKept: null,
  };
}

const sum = (values: Iterable<number>) => [...values].reduce((total, value) => total + value, 0);

describe("pageMasses", () => {
  test("spreads a block over its KV pages, mean over heads", () => {
    const masses = pageMasses(
      trace(200, [
        {
          blockTokens: 16,
          blocks: [
            [0, 0.25],
            [5, 0.75],
          ],
        },
        { blockTokens: 64, blocks: [[1, 1]] },
      ]),
      [0.5, 0.5],
    );
    expect(masses).toHaveLength(13);
    expect(masses[0]).toBeCloseTo(0.125);
    expect(masses[4]).toBeCloseTo(0.125);
    expect(masses[5]).toBeCloseTo(0.375 + 0.125);
    expect(sum(masses)).toBeCloseTo(1);
  });

  test("keeps the mass of a last, unfinished block", () => {
    const masses = pageMasses(trace(150, [{ blockTokens: 128, blocks: [[1, 1]] }]), [1]);
    expect(masses).toHaveLength(10);
    expect(masses[8]).toBeCloseTo(0.5);
    expect(sum(masses)).toBeCloseTo(1);
  });

  test("weighs the heads", () => {
    const read = trace(200, [
      { blockTokens: 16, blocks: [[5, 1]] },
      { blockTokens: 16, blocks: [[7, 1]] },
      { blockTokens: 16, blocks: [[9, 1]] },
    ]);
    const masses = pageMasses(read, [0.75, 0, 0.25]);
    expect([5, 7, 9].map((page) => masses[page])).toEqual([0.75, 0, 0.25]);
  });
});

describe("the heads that cite", () => {
  const model = { layers: 2, kvHeads: 2 };

  test("are those that copy, where the profile says which", async () => {
    const file = await loadHeadProfile(join(shippedProfilesDir(), "smollm2-135m.json"));
    const { score } = file.measured.retrieval!;
    const { weights, haveSteadyPart } = citingHeads(file.model, { file });
    expect(haveSteadyPart).toBe(false);
    expect(sum(Array.from(weights))).toBeCloseTo(1);
    const order = Array.from(weights, (_, head) => head);
    const by = (values: ArrayLike<number>) => (a: number, b: number) => values[b]! - values[a]!;
    expect([...order].sort(by(weights))).toEqual([...order].sort(by(score.flat())));
  });

  test("are all alike without retrieval scores", () => {
    const { weights, haveSteadyPart } = citingHeads(model, { file: null });
    expect(Array.from(weights)).toEqual([0.25, 0.25, 0.25, 0.25]);
    expect(haveSteadyPart).toBe(true);
  });
});

describe("AttentionMap", () => {
  // A document of 100 KV pages at tokens 64–1,664, then 300 tokens of question and answer.
  const depth = 1964;
  const step = (spikes: Record<number, number>) => {
    const masses = new Float32Array(Math.ceil(depth / 16)).fill(0.001);
    masses[0] = 0.5; // a sink
    masses[122] = 0.2; // near
    masses[40] = 0.05; // drawn at every step
    for (const [page, mass] of Object.entries(spikes)) masses[Number(page)]! += mass;
    return masses;
  };

  test("finds the passage of each sentence, not what is always read", () => {
    const map = new AttentionMap(64, 1664, true);
    for (let at = 0; at < 10; at++) {
      map.add(step(at % 3 === 0 ? { 20: 0.1 } : {}), depth, at === 9 ? ". " : "a", at);
    }
    for (let at = 0; at < 10; at++) {
      map.add(step(at % 4 === 0 ? { 77: 0.08, 78: 0.075 } : {}), depth, "b", 11 + at);
    }
    expect(map.standOut(0, 11, 2, 2)).toMatchObject([{ first: 20, end: 21 }]);
    expect(map.standOut(11, 99, 2, 2)).toMatchObject([{ first: 77, end: 79 }]);
    expect(map.standOut(0, 11, 1, 2)[0]!.score).toBeGreaterThan(10);
    expect(map.standOut(99, 100, 2, 2)).toEqual([]);
  });

  test("takes no steady part off where there is none: an answer may copy one passage throughout", () => {
    const attended = (hasSteadyPart: boolean) => {
      const map = new AttentionMap(64, 1664, hasSteadyPart);
      for (let at = 0; at < 10; at++) map.add(step({ 20: at === 0 ? 0.1 : 0.2 }), depth, "a", at);
      return map.standOut(0, 99, 1, 2);
    };
    expect(attended(false)).toMatchObject([{ first: 20, end: 21 }]);
    expect(attended(true)).toEqual([]);
  });

  test("names nothing when attention is even", () => {
    const map = new AttentionMap(64, 1664, true);
    for (let at = 0; at < 10; at++) map.add(step({}), depth, "a", at);
    expect(map.standOut(0, 99, 5, 0.01)).toEqual([]);
  });

  test("leaves out sinks, near tokens and what is not the document", () => {
    const map = new AttentionMap(40, 1664, true);
    for (let at = 0; at < 10; at++) {
      const spikes = at % 5 === 0 ? { 0: 0.5, 3: 0.5, 104: 0.5, 110: 0.5 } : {};
      map.add(step(spikes), depth, "a", at);
    }
    expect(map.standOut(0, 99, 5, 0.5)).toEqual([]);
    // Near: the document's last tokens while hardly anything follows it.
    const near = new AttentionMap(64, 1664, true);
    near.add(step({ 100: 0.5 }), 1670, "a", 0);
    near.add(step({}), 1670, "b", 1);
    expect(near.standOut(0, 99, 5, 0.5)).toEqual([]);
  });

  test("has no answer for a document shorter than the sink", () => {
    const map = new AttentionMap(10, 50, true);
    map.add(step({}), depth, "a", 0);
    expect(map.standOut(0, 99, 5, 0)).toEqual([]);
  });
});

describe("traceFrame", () => {
  test("bins the mass over the document, in at most 8 KB", () => {
    const heads = Array.from({ length: 90 }, (_, head) => ({
      blockTokens: [16, 32, 64, 128][head % 4]!,
      blocks: [
        [2, 0.5],
        [7, 0.5],
      ] as [number, number][],
    }));
    const bytes = traceFrame(trace(4096, heads), { start: 0, end: 4096 })!;
    expect(bytes.length).toBeLessThanOrEqual(traceMaxBytes);
    const frame = decodeTrace(bytes);
    expect(frame.depth).toBe(4096);
    expect(frame.blockTokens[3]).toBe(128);
    expect(frame.blocksRead[0]).toBe(2);
    expect(sum(frame.mean)).toBeCloseTo(1, 2);
    const first = frame.perHead.subarray(0, frame.headBins);
    expect(sum(first)).toBeCloseTo(1, 1);
    // Block 2 of 16 tokens lies at tokens 32–48.
    expect(first[Math.floor((40 / 4096) * frame.headBins)]).toBeCloseTo(0.5, 1);
  });

  test("leaves out what is not the document", () => {
    const one = trace(512, [
      {
        blockTokens: 128,
        blocks: [
          [0, 0.5],
          [3, 0.5],
        ],
      },
    ]);
    const frame = decodeTrace(traceFrame(one, { start: 256, end: 480 })!);
    // The last block's tokens 384–480 are the document's: 6 of its 8 KV pages.
    expect(sum(frame.mean)).toBeCloseTo(0.375, 3);
  });
});
