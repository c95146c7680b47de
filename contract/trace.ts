/** A trace frame: what one decode step read, in at most 8 KB, so that a window can draw it at every
 * step. Little-endian:
 *
 *     0  u8   version (2)
 *     1  u8   flags: bit 0, the strips below hold attention mass (else tokens read); bit 1, the mass
 *             kept was measured at this step
 *     2  u16  heads H, layer-major
 *     4  u32  depth: tokens in the context, the new one included
 *     8  u32  first token of the document in the sequence
 *    12  u32  token after the last of the document
 *    16  u16  bins M of the strip over the document, mean over heads
 *    18  u16  bins P of the strip of each head (0: none)
 *    20  f32  scale of the mean strip: value = u16 / 65535 * scale
 *    24  f32  scale of the heads' strips: value = u8 / 255 * scale
 *    28  u32  reserved, 0
 *    32  f64  bytes of keys and values read, all heads
 *    40  f64  bytes of digests read
 *    48  f64  bytes that dense decode would have read
 *    56  u16[H]     kv_blocks read
 *    ..  u16[M]     mean strip
 *    ..  u8[H]      log2 of the block size
 *    ..  u8[H * P]  strips of the heads, head by head
 *    ..  u8[H]      with bit 1: the mass kept, value = u8 / 255
 *
 * A strip divides the document's tokens into equal bins. With mass, a bin is the share of attention
 * that fell into it; without, the share of its tokens that were read. */

export const traceVersion = 2;
export const traceMaxBytes = 8192;
const headerBytes = 56;
const meanBins = 1024;
const headBinsAtMost = 64;

export interface TraceFrame {
  holdsMass: boolean;
  depth: number;
  documentStart: number;
  documentEnd: number;
  kvBytes: number;
  digestBytes: number;
  denseBytes: number;
  /** [heads] */
  blockTokens: Uint16Array;
  /** [heads] */
  blocksRead: Uint16Array;
  /** [heads] of the attention that dense decode would give to the whole context, the share that falls
   * on what was read; null at the steps where it was not measured. */
  massKept: Float32Array | null;
  /** [bins] over the document, mean over heads */
  mean: Float32Array;
  /** [heads][headBins] */
  perHead: Float32Array;
  headBins: number;
}

/** Bins that fit a frame for so many heads. Models of more heads than fit get no strips per head.
 * @returns null when not even the heads' counts fit. */
export function traceBins(heads: number): { mean: number; perHead: number } | null {
  const fixed = headerBytes + 4 * heads;
  const room = traceMaxBytes - fixed;
  if (room < 0 || heads > 0xffff) return null;
  const mean = Math.min(meanBins, Math.floor(room / 2));
  const perHead = Math.min(headBinsAtMost, Math.floor((room - 2 * mean) / Math.max(1, heads)));
  return { mean, perHead };
}

export function encodeTrace(frame: TraceFrame): Uint8Array {
  const heads = frame.blockTokens.length;
  const kept = frame.massKept ?? new Float32Array(0);
  const bytes =
    headerBytes + 3 * heads + 2 * frame.mean.length + heads * frame.headBins + kept.length;
  if (bytes > traceMaxBytes) throw new RangeError(`a trace frame of ${bytes} bytes is too long`);
  const meanScale = largest(frame.mean);
  const headScale = largest(frame.perHead);
  const view = new DataView(new ArrayBuffer(bytes));
  view.setUint8(0, traceVersion);
  view.setUint8(1, (frame.holdsMass ? 1 : 0) | (frame.massKept !== null ? 2 : 0));
  view.setUint16(2, heads, true);
  view.setUint32(4, frame.depth, true);
  view.setUint32(8, frame.documentStart, true);
  view.setUint32(12, frame.documentEnd, true);
  view.setUint16(16, frame.mean.length, true);
  view.setUint16(18, frame.headBins, true);
  view.setFloat32(20, meanScale, true);
  view.setFloat32(24, headScale, true);
  view.setFloat64(32, frame.kvBytes, true);
  view.setFloat64(40, frame.digestBytes, true);
  view.setFloat64(48, frame.denseBytes, true);
  let at = headerBytes;
  for (const blocks of frame.blocksRead) {
    view.setUint16(at, blocks, true);
    at += 2;
  }
  for (const value of frame.mean) {
    view.setUint16(at, quantise(value, meanScale, 65535), true);
    at += 2;
  }
  for (const tokens of frame.blockTokens) view.setUint8(at++, Math.log2(tokens));
  for (const value of frame.perHead) view.setUint8(at++, quantise(value, headScale, 255));
  for (const value of kept) view.setUint8(at++, quantise(value, 1, 255));
  return new Uint8Array(view.buffer);
}

/** @throws RangeError when the bytes are no trace frame of this version. */
export function decodeTrace(bytes: Uint8Array): TraceFrame {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < headerBytes || view.getUint8(0) !== traceVersion) {
    throw new RangeError("not a trace frame of this version");
  }
  const heads = view.getUint16(2, true);
  const bins = view.getUint16(16, true);
  const headBins = view.getUint16(18, true);
  const hasKept = (view.getUint8(1) & 2) !== 0;
  const perHeadBytes = 3 + headBins + (hasKept ? 1 : 0);
  if (bytes.length !== headerBytes + perHeadBytes * heads + 2 * bins) {
    throw new RangeError("a trace frame cut short");
  }
  const meanScale = view.getFloat32(20, true);
  const headScale = view.getFloat32(24, true);
  let at = headerBytes;
  const next = (length: number): Uint8Array => {
    at += length;
    return bytes.subarray(at - length, at);
  };
  return {
    holdsMass: (view.getUint8(1) & 1) === 1,
    depth: view.getUint32(4, true),
    documentStart: view.getUint32(8, true),
    documentEnd: view.getUint32(12, true),
    kvBytes: view.getFloat64(32, true),
    digestBytes: view.getFloat64(40, true),
    denseBytes: view.getFloat64(48, true),
    headBins,
    blocksRead: words(next(2 * heads)),
    mean: scaled(words(next(2 * bins)), meanScale / 65535),
    blockTokens: Uint16Array.from(next(heads), (log2) => 2 ** log2),
    perHead: scaled(next(heads * headBins), headScale / 255),
    massKept: hasKept ? scaled(next(heads), 1 / 255) : null,
  };
}

// Plain loops: a window decodes a frame of some thousand values with every token.

function words(bytes: Uint8Array): Uint16Array {
  const out = new Uint16Array(bytes.length / 2);
  for (let index = 0; index < out.length; index++)
    out[index] = bytes[2 * index]! | (bytes[2 * index + 1]! << 8);
  return out;
}

function scaled(values: Uint8Array | Uint16Array, step: number): Float32Array {
  const out = new Float32Array(values.length);
  for (let index = 0; index < out.length; index++) out[index] = values[index]! * step;
  return out;
}

function largest(values: Float32Array): number {
  let max = 0;
  for (const value of values) if (value > max) max = value;
  return Math.fround(max);
}

function quantise(value: number, scale: number, steps: number): number {
  return scale > 0 ? Math.round(Math.min(1, Math.max(0, value / scale)) * steps) : 0;
}
