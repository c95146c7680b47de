/** Writes GGUF files that are wrong on purpose: small ones from nothing, and the header of a real
 * model with single values changed. Format: ggml's docs/gguf.md, version 3, little-endian. */
import { closeSync, ftruncateSync, openSync, readSync, statSync, writeSync } from "node:fs";

/** Type numbers of values. */
export const valueType = { uint32: 4, int32: 5, float32: 6, string: 8, array: 9, uint64: 10 };

/** Bytes put together by a chain of calls. */
export class Bytes {
  private readonly parts: Buffer[] = [];

  u32(value: number): this {
    const part = Buffer.alloc(4);
    part.writeUInt32LE(value);
    return this.raw(part);
  }

  u64(value: bigint | number): this {
    const part = Buffer.alloc(8);
    part.writeBigUInt64LE(BigInt(value));
    return this.raw(part);
  }

  f32(value: number): this {
    const part = Buffer.alloc(4);
    part.writeFloatLE(value);
    return this.raw(part);
  }

  /** Length, then UTF-8. */
  text(value: string): this {
    return this.u64(Buffer.byteLength(value)).raw(Buffer.from(value));
  }

  raw(part: Uint8Array): this {
    this.parts.push(Buffer.from(part));
    return this;
  }

  zeros(count: number): this {
    return this.raw(Buffer.alloc(count));
  }

  done(): Buffer {
    return Buffer.concat(this.parts);
  }
}

/** A file's start: magic, version, counts. */
export function ggufStart(tensors: bigint | number, values: bigint | number, version = 3): Bytes {
  return new Bytes().raw(Buffer.from("GGUF")).u32(version).u64(tensors).u64(values);
}

/** A place in a header and what to write there. */
export interface Change {
  /** A key of the metadata, or a tensor's name. */
  name: string;
  /** Bytes after the end of the name. */
  offset: number;
  bytes: Buffer;
}

/** Sets the value of a scalar key, whatever its type: 4 bytes of type, then the value. */
export const setUint32 = (name: string, value: number): Change => ({
  name,
  offset: 4,
  bytes: new Bytes().u32(value).done(),
});

export const setFloat32 = (name: string, value: number): Change => ({
  name,
  offset: 4,
  bytes: new Bytes().f32(value).done(),
});

/** Sets the count of an array: type, element type, count. */
export const setCount = (name: string, count: bigint): Change => ({
  name,
  offset: 8,
  bytes: new Bytes().u64(count).done(),
});

/** Sets one dimension of a tensor: number of dimensions, then the dimensions. */
export const setDimension = (name: string, dimension: number, size: bigint): Change => ({
  name,
  offset: 4 + 8 * dimension,
  bytes: new Bytes().u64(size).done(),
});

/** Of a tensor of two dimensions: after them, the type, then the offset of its data. */
export const setTensorType = (name: string, type: number): Change => ({
  name,
  offset: 4 + 16,
  bytes: new Bytes().u32(type).done(),
});
export const setTensorOffset = (name: string, offset: bigint): Change => ({
  name,
  offset: 4 + 16 + 4,
  bytes: new Bytes().u64(offset).done(),
});

/** Copies a model's header with changes; the weights are a hole of the right length, so that the file
 * takes no room. */
export function writeChanged(model: string, to: string, changes: Change[]): void {
  const { size } = statSync(model);
  const header = Buffer.alloc(Math.min(size, 8 << 20));
  const from = openSync(model, "r");
  readSync(from, header, 0, header.length, 0);
  closeSync(from);
  for (const { name, offset, bytes } of changes) {
    const at = header.indexOf(new Bytes().text(name).done());
    if (at < 0) throw new Error(`${name} is not in the header of ${model}`);
    bytes.copy(header, at + 8 + Buffer.byteLength(name) + offset);
  }
  const file = openSync(to, "w");
  writeSync(file, header);
  ftruncateSync(file, size);
  closeSync(file);
}
