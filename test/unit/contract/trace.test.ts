import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  decodeTrace,
  encodeTrace,
  type TraceFrame,
  traceBins,
  traceMaxBytes,
} from "../../../contract/trace.ts";

function frame(heads: number, mean: number, headBins: number, value = (index: number) => index) {
  const built: TraceFrame = {
    holdsMass: true,
    depth: 30_000,
    documentStart: 40,
    documentEnd: 29_900,
    kvBytes: 12_582_912,
    digestBytes: 3_000_000,
    denseBytes: 368_640_000,
    blockTokens: Uint16Array.from({ length: heads }, (_, head) => 16 << (head % 4)),
    blocksRead: Uint16Array.from({ length: heads }, (_, head) => head * 3),
    massKept: null,
    mean: Float32Array.from({ length: mean }, (_, index) => value(index)),
    perHead: Float32Array.from({ length: heads * headBins }, (_, index) => value(index)),
    headBins,
  };
  return built;
}

describe("a trace frame", () => {
  test("is read as it was written, strips within their steps", () => {
    const written = frame(48, 100, 20, (index) => (index % 50) / 50);
    const read = decodeTrace(encodeTrace(written));
    const { mean, perHead, ...rest } = read;
    expect({ ...rest, mean: written.mean, perHead: written.perHead }).toEqual(written);
    mean.forEach((value, bin) => {
      expect(Math.abs(value - written.mean[bin]!)).toBeLessThan(0.98 / 65535);
    });
    perHead.forEach((value, bin) => {
      expect(Math.abs(value - written.perHead[bin]!)).toBeLessThan(0.98 / 255);
    });
  });

  test("holds the mass kept where it was measured", () => {
    const massKept = Float32Array.from({ length: 48 }, (_, head) => head / 47);
    const bytes = encodeTrace({ ...frame(48, 100, 20), massKept });
    const read = decodeTrace(bytes);
    massKept.forEach((share, head) => {
      expect(Math.abs(read.massKept![head]! - share)).toBeLessThanOrEqual(0.5 / 255 + 1e-6);
    });
    expect(read.perHead).toHaveLength(48 * 20);
    // Without its bytes it is cut short; with them but without its sign it is too long.
    expect(() => decodeTrace(bytes.subarray(0, -48))).toThrow(RangeError);
    bytes[1] = 1;
    expect(() => decodeTrace(bytes)).toThrow(RangeError);
  });

  test.each([1, 48, 56, 90, 256, 288, 1000, 2000])("of %i heads fits 8 KB", (heads) => {
    const bins = traceBins(heads)!;
    const massKept = new Float32Array(heads).fill(1);
    const full = { ...frame(heads, bins.mean, bins.perHead), massKept };
    const bytes = encodeTrace(full).length;
    expect(bytes).toBeLessThanOrEqual(traceMaxBytes);
    if (heads <= 90) expect(bins).toMatchObject({ mean: 1024 });
    if (heads === 90) expect(bins.perHead).toBeGreaterThan(32);
  });

  test("of more heads than fit is not made", () => {
    expect(traceBins(2800)).toBeNull();
    expect(() => encodeTrace(frame(48, 4000, 64))).toThrow(RangeError);
  });

  test("without any attention is all zero", () => {
    const read = decodeTrace(encodeTrace(frame(4, 8, 2, () => 0)));
    expect([...read.mean, ...read.perHead].every((value) => value === 0)).toBe(true);
  });

  test("cut short or of another version is refused", () => {
    const bytes = encodeTrace(frame(48, 100, 20));
    fc.assert(
      fc.property(fc.integer({ min: 0, max: bytes.length - 1 }), (length) => {
        expect(() => decodeTrace(bytes.subarray(0, length))).toThrow(RangeError);
      }),
      { seed: 7 },
    );
    const later = bytes.slice();
    later[0] = 1;
    expect(() => decodeTrace(later)).toThrow(RangeError);
  });

  test("is read from the middle of a buffer", () => {
    const bytes = encodeTrace(frame(5, 7, 3));
    const padded = new Uint8Array(bytes.length + 8);
    padded.set(bytes, 3);
    expect(decodeTrace(padded.subarray(3, 3 + bytes.length)).depth).toBe(30_000);
  });
});
