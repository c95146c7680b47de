/** The trace frames of the answer that is being written, beside React: a ring of the last steps and
 * what they come to together. Canvases take from it what they draw, at most once per frame of the
 * screen. */
import { decodeTrace, type TraceFrame } from "../../contract/trace.ts";

const capacity = 1024;

export class Traces {
  /** The turn that the frames belong to; null before the first answer. */
  turnId: string | null = null;
  /** Steps so far, dropped ones included. */
  steps = 0;
  /** Steps whose frames were left out, because the window took them too slowly. */
  dropped = 0;
  latest: TraceFrame | null = null;
  /** Grows with every change; canvases compare it. */
  version = 0;
  /** What each head read in the last steps. */
  private readonly ring: Uint16Array[] = [];
  private next = 0;
  private meanSum: Float64Array = new Float64Array(0);
  private meanCount = 0;
  private readonly listeners = new Set<() => void>();

  begin(turnId: string) {
    this.turnId = turnId;
    this.steps = 0;
    this.dropped = 0;
    this.latest = null;
    this.ring.length = 0;
    this.next = 0;
    this.meanSum = new Float64Array(0);
    this.meanCount = 0;
    this.changed();
  }

  /** @throws RangeError when the bytes are no trace frame */
  push(bytes: Uint8Array, droppedBefore: number) {
    const frame = decodeTrace(bytes);
    this.latest = frame;
    this.steps += 1 + droppedBefore;
    this.dropped += droppedBefore;
    this.ring[this.next] = frame.blocksRead;
    this.next = (this.next + 1) % capacity;
    this.addToMean(frame.mean);
    this.changed();
  }

  /** Mean over the steps of what was read along the document: [bins]; null before the first step. */
  mean(): Float32Array | null {
    if (this.meanCount === 0) return null;
    return Float32Array.from(this.meanSum, (sum) => sum / this.meanCount);
  }

  /** kv_blocks that a head read in each of the last steps, oldest first. */
  historyOf(head: number): number[] {
    const ordered = [...this.ring.slice(this.next), ...this.ring.slice(0, this.next)];
    return ordered.map((blocksRead) => blocksRead[head] ?? 0);
  }

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  private addToMean(mean: Float32Array) {
    // The number of bins is the model's; another one begins anew.
    if (this.meanSum.length !== mean.length) {
      this.meanSum = new Float64Array(mean.length);
      this.meanCount = 0;
    }
    for (let bin = 0; bin < mean.length; bin++) this.meanSum[bin]! += mean[bin]!;
    this.meanCount++;
  }

  private changed() {
    this.version++;
    for (const listener of this.listeners) listener();
  }
}

/** Of the answer that is being written. */
export const traces = new Traces();

/** Bytes of keys and values that each head read in this step: the step's bytes shared out by tokens,
 * which all cost the same. [heads] */
export function bytesByHead(frame: TraceFrame): Float64Array {
  const tokens = Float64Array.from(
    frame.blocksRead,
    (blocks, head) => blocks * frame.blockTokens[head]!,
  );
  const total = tokens.reduce((sum, count) => sum + count, 0);
  return tokens.map((count) => (total > 0 ? (count / total) * frame.kvBytes : 0));
}
