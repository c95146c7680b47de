/** Names and sizes of a GGUF's tensors, from its header (github.com/ggml-org/ggml, docs/gguf.md). Only
 * for showing where the weights' bytes go: the engine reads the file itself. */
import { open } from "node:fs/promises";

export interface TensorSize {
  /** E.g. `blk.3.attn_q.weight`. */
  name: string;
  /** In the file, padding to the next tensor included. */
  bytes: number;
}

/** Vocabularies and merges of today's models take some 10 MB. */
const headerBytesAtMost = 64 * 2 ** 20;
const defaultAlignment = 32;
const mostDimensions = 4;

/** Bytes of each scalar type of a metadata value, by its number; 8 is a string, 9 an array. */
const scalarBytes = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
const stringType = 8;
const arrayType = 9;

/** @returns null when the file is no GGUF, or its header is not as it should be */
export async function ggufTensors(path: string): Promise<TensorSize[] | null> {
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    const head = Buffer.alloc(Math.min(size, headerBytesAtMost));
    await file.read(head, 0, head.length, 0);
    return readTensors(new Cursor(head), size);
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  } finally {
    await file.close();
  }
}

/** A place in the header; reading beyond its end throws RangeError. */
class Cursor {
  private readonly bytes: Buffer;
  at = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  u32(): number {
    this.at += 4;
    return this.bytes.readUInt32LE(this.at - 4);
  }

  u64(): number {
    this.at += 8;
    const value = Number(this.bytes.readBigUInt64LE(this.at - 8));
    if (!Number.isSafeInteger(value)) throw new RangeError("a count beyond reason");
    return value;
  }

  skip(bytes: number): void {
    this.at += bytes;
    if (!(this.at <= this.bytes.length)) throw new RangeError("a header cut short");
  }

  text(): string {
    const length = this.u64();
    this.skip(length);
    return this.bytes.toString("utf8", this.at - length, this.at);
  }
}

function readTensors(cursor: Cursor, fileBytes: number): TensorSize[] | null {
  // "GGUF"; version 1 had counts of 32 bits.
  if (cursor.u32() !== 0x46554747 || cursor.u32() < 2) return null;
  const tensors = cursor.u64();
  const values = cursor.u64();
  let alignment = defaultAlignment;
  for (let value = 0; value < values; value++) {
    const key = cursor.text();
    const type = cursor.u32();
    if (key === "general.alignment" && type === 4) alignment = Math.max(1, cursor.u32());
    else skipValue(cursor, type);
  }
  const placed: { name: string; offset: number }[] = [];
  for (let tensor = 0; tensor < tensors; tensor++) {
    const name = cursor.text();
    const dimensions = cursor.u32();
    if (dimensions > mostDimensions) return null;
    cursor.skip(8 * dimensions + 4);
    placed.push({ name, offset: cursor.u64() });
  }
  const data = Math.ceil(cursor.at / alignment) * alignment;
  placed.sort((a, b) => a.offset - b.offset);
  const sizes = placed.map(({ name, offset }, index) => {
    const end = placed[index + 1]?.offset ?? fileBytes - data;
    return { name, bytes: end - offset };
  });
  return sizes.every(({ bytes }) => bytes >= 0) ? sizes : null;
}

function skipValue(cursor: Cursor, type: number): void {
  if (type === stringType) {
    cursor.skip(cursor.u64());
  } else if (type === arrayType) {
    const item = cursor.u32();
    const count = cursor.u64();
    const bytes = scalarBytes[item];
    if (bytes !== undefined && bytes > 0) cursor.skip(count * bytes);
    else if (item !== stringType) throw new RangeError("an array of arrays");
    else for (let index = 0; index < count; index++) cursor.skip(cursor.u64());
  } else {
    const bytes = scalarBytes[type];
    if (!bytes) throw new RangeError("a value of an unknown type");
    cursor.skip(bytes);
  }
}
