import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeMessage, encodeMessage } from "../../../contract/codec.ts";

const leaf = fc.oneof(
  fc.string({ unit: "grapheme" }),
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }).filter((value) => !Object.is(value, -0)),
  fc.boolean(),
  fc.constant(null),
  fc.uint8Array({ maxLength: 40 }),
  fc.float32Array({ maxLength: 9 }),
);
const message = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    leaf,
    fc.array(tie("value"), { maxLength: 4 }),
    fc.dictionary(fc.string({ maxLength: 5 }), tie("value"), { maxKeys: 4 }),
  ),
})).value;

const asBytes = (frame: string | Uint8Array) => {
  if (typeof frame === "string") throw new Error("a binary frame was expected");
  return frame;
};

describe("messages as WebSocket frames", () => {
  test("come back as they were", () => {
    fc.assert(
      fc.property(message, (value) => {
        const frame = encodeMessage({ value });
        // Received bytes may lie anywhere in a larger buffer.
        const received = typeof frame === "string" ? frame : moved(frame);
        const back = JSON.stringify(plain(decodeMessage(received)));
        expect(back).toBe(JSON.stringify(plain({ value })));
      }),
      { numRuns: 500, seed: 1 },
    );
  });

  test("are text without typed arrays, and hold arrays in their own types", () => {
    expect(encodeMessage({ a: [1, "ä"] })).toBe('{"message":{"a":[1,"ä"]}}');
    const back = decodeMessage(
      encodeMessage({ image: Uint8Array.of(1, 2, 3), strip: Float32Array.of(0.5, 2) }),
    ) as Record<string, unknown>;
    expect(back.image).toStrictEqual(Uint8Array.of(1, 2, 3));
    expect(back.strip).toStrictEqual(Float32Array.of(0.5, 2));
  });

  test("that are cut short or lead elsewhere are refused", () => {
    const frame = asBytes(encodeMessage({ image: Uint8Array.of(1, 2, 3) }));
    for (let length = 0; length < frame.length; length++) {
      expect(() => decodeMessage(frame.slice(0, length))).toThrow();
    }
    expect(() => decodeMessage("{")).toThrow();
    for (const path of [["__proto__", "x"], ["constructor"], ["image", "0"], [], ["nothing"]]) {
      const json = JSON.stringify({
        message: { image: null },
        arrays: [{ path, type: "u8", bytes: 0 }],
      });
      expect(() => decodeMessage(frameOf(json))).toThrow();
    }
    for (const type of ["f64", "constructor"]) {
      const arrays = [{ path: ["image"], type, bytes: 0 }];
      expect(() =>
        decodeMessage(frameOf(JSON.stringify({ message: { image: null }, arrays }))),
      ).toThrow();
    }
    expect((Object.prototype as Record<string, unknown>).x).toBeUndefined();
  });
});

function frameOf(json: string): Uint8Array {
  const text = Buffer.from(json);
  const frame = Buffer.alloc(4 + text.length);
  frame.writeUInt32LE(text.length);
  text.copy(frame, 4);
  return frame;
}

function moved(frame: Uint8Array): Uint8Array {
  const larger = new Uint8Array(frame.length + 3);
  larger.set(frame, 3);
  return larger.subarray(3);
}

/** With typed arrays told apart. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return { u8: [...value] };
  if (value instanceof Float32Array) return { f32: [...value].map((item) => String(item)) };
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  return Object.entries(value).map(([key, item]) => [key, plain(item)]);
}
