/** Messages as WebSocket frames: JSON as text, and where a message holds typed arrays, a binary frame:
 *
 *     u32   bytes of the JSON, little-endian
 *     JSON  {"message": …, "arrays": [{"path", "type", "bytes"}]}, UTF-8
 *     the arrays' bytes, one after the other
 *
 * A path leads from the message to the place of an array, where the JSON has null. */

/** What browsers and Node have alike; this folder is compiled for neither. */
declare const TextEncoder: new () => { encode(text: string): Uint8Array };
declare const TextDecoder: new (
  label: string,
  options: { fatal: boolean },
) => { decode(bytes: Uint8Array): string };

const arrayTypes = { u8: Uint8Array, f32: Float32Array } as const;
type ArrayType = keyof typeof arrayTypes;
type AnyArray = Uint8Array | Float32Array;

interface ArrayPlace {
  path: string[];
  type: ArrayType;
  bytes: number;
}

/** Deeper messages than the contract has are refused. */
const deepest = 32;

export function encodeMessage(message: unknown): string | Uint8Array {
  const arrays: AnyArray[] = [];
  const places: ArrayPlace[] = [];
  const plain = takeOut(message, [], arrays, places);
  if (arrays.length === 0) return JSON.stringify({ message: plain });
  const json = new TextEncoder().encode(JSON.stringify({ message: plain, arrays: places }));
  const bytes = arrays.reduce((sum, array) => sum + array.byteLength, 0);
  const frame = new Uint8Array(4 + json.length + bytes);
  new DataView(frame.buffer).setUint32(0, json.length, true);
  frame.set(json, 4);
  let at = 4 + json.length;
  for (const array of arrays) {
    frame.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), at);
    at += array.byteLength;
  }
  return frame;
}

/** @throws Error when the frame is none of {@link encodeMessage}'s. */
export function decodeMessage(frame: string | Uint8Array): unknown {
  if (typeof frame === "string") return (JSON.parse(frame) as { message: unknown }).message;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const jsonEnd = 4 + view.getUint32(0, true);
  if (jsonEnd > frame.length) throw new RangeError("a frame cut short");
  const json = new TextDecoder("utf-8", { fatal: true }).decode(frame.subarray(4, jsonEnd));
  const { message, arrays } = JSON.parse(json) as { message: unknown; arrays: ArrayPlace[] };
  let at = jsonEnd;
  for (const { path, type, bytes } of arrays) {
    if (!Object.hasOwn(arrayTypes, type) || at + bytes > frame.length) {
      throw new RangeError("a frame of another kind, or cut short");
    }
    // A copy of its own lies where its type wants it.
    put(message, path, new arrayTypes[type](frame.slice(at, at + bytes).buffer));
    at += bytes;
  }
  return message;
}

/** The message without its typed arrays, which are gathered with their places. */
function takeOut(
  value: unknown,
  path: string[],
  arrays: AnyArray[],
  places: ArrayPlace[],
): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (path.length > deepest) throw new RangeError("a message nested too deep");
  for (const [type, Class] of Object.entries(arrayTypes)) {
    if (!(value instanceof Class)) continue;
    arrays.push(value);
    places.push({ path, type: type as ArrayType, bytes: value.byteLength });
    return null;
  }
  if (Array.isArray(value)) {
    return value.map((item, index) => takeOut(item, [...path, `${index}`], arrays, places));
  }
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [
      key,
      takeOut(item, [...path, key], arrays, places),
    ]),
  );
}

/** Sets what lies at the path, where there is a null. */
function put(message: unknown, path: string[], array: AnyArray): void {
  let holder = message as Record<string, unknown>;
  for (const key of path.slice(0, -1)) {
    if (!Object.hasOwn(holder, key)) throw new RangeError("a path that leads nowhere");
    holder = holder[key] as Record<string, unknown>;
  }
  const last = path.at(-1) ?? "";
  if (!Object.hasOwn(holder, last) || holder[last] !== null) {
    throw new RangeError("a path that leads nowhere");
  }
  holder[last] = array;
}
