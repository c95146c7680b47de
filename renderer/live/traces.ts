/** The trace frames of the answer that is being written, beside React: a ring of the last steps and
 * what they come to together. Canvases take from it what they draw, when it is their turn. */
import type { HeadsOfAnswer } from "../../contract/chats.ts";
import { decodeTrace, type TraceFrame } from "../../contract/trace.ts";
import { type Pace, type Part, pace } from "./pace.ts";

const capacity = 1024;

/** What the heads' reading kept of dense attention. */
export interface MeasuredMass {
  /** Of the answer, from 0. */
  step: number;
  /** [heads] */
  massKept: Float32Array;
}

/** What the heads read: at one step, or on average over an answer. */
export interface Reading {
  /** [heads] */
  blockTokens: ArrayLike<number>;
  /** [heads] kv_blocks per token */
  blocksRead: ArrayLike<number>;
  /** Keys and values per token, all heads. */
  kvBytes: number;
  /** [heads] null: not measured */
  massKept: ArrayLike<number> | null;
}

/** What shows traces: maps of the last step, and charts of all of them. */
type TracePart = Exclude<Part, "text">;

export class Traces {
  /** The turn that the frames belong to; null before the first answer. */
  turnId: string | null = null;
  /** Steps so far, dropped ones included. */
  steps = 0;
  /** Steps whose frames were left out, because the window took them too slowly. */
  dropped = 0;
  /** The last step, with the mass kept as it was last measured. */
  latest: TraceFrame | null = null;
  /** Grows with every change; canvases compare it. */
  version = 0;
  /** What each head read in the last steps. */
  private readonly ring: Uint16Array[] = [];
  private next = 0;
  private measured: MeasuredMass[] = [];
  private meanSum: Float64Array = new Float64Array(0);
  private meanCount = 0;
  private readonly pace: Pace;
  private readonly listeners: Record<TracePart, Set<() => void>> = {
    maps: new Set(),
    charts: new Set(),
  };

  constructor(pace: Pace) {
    this.pace = pace;
  }

  begin(turnId: string) {
    this.turnId = turnId;
    this.steps = 0;
    this.dropped = 0;
    this.latest = null;
    this.ring.length = 0;
    this.next = 0;
    this.measured = [];
    this.meanSum = new Float64Array(0);
    this.meanCount = 0;
    this.changed();
  }

  /** @throws RangeError when the bytes are no trace frame */
  push(bytes: Uint8Array, droppedBefore: number) {
    const frame = decodeTrace(bytes);
    const { massKept } = frame;
    this.latest = { ...frame, massKept: massKept ?? this.latest?.massKept ?? null };
    if (massKept !== null) this.measured.push({ step: this.steps + droppedBefore, massKept });
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
    const mean = new Float32Array(this.meanSum.length);
    for (let bin = 0; bin < mean.length; bin++) mean[bin] = this.meanSum[bin]! / this.meanCount;
    return mean;
  }

  /** kv_blocks that a head read in each of the last steps, oldest first. */
  historyOf(head: number): number[] {
    const ordered = [...this.ring.slice(this.next), ...this.ring.slice(0, this.next)];
    return ordered.map((blocksRead) => blocksRead[head] ?? 0);
  }

  /** The steps at which the mass kept was measured, in order. */
  massHistory(): readonly MeasuredMass[] {
    return this.measured;
  }

  /** Calls back when there is something new and it is this part's turn. */
  subscribe(part: TracePart, listener: () => void): () => void {
    this.listeners[part].add(listener);
    return () => this.listeners[part].delete(listener);
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
    this.ask("maps");
    this.ask("charts");
  }

  private ask(part: TracePart) {
    const listeners = this.listeners[part];
    if (listeners.size === 0) return;
    this.pace.ask(part, () => {
      for (const listener of listeners) listener();
    });
  }
}

/** Of the answer that is being written. */
export const traces = new Traces(pace);

/** Bytes of keys and values that each head read per token: all bytes shared out by tokens, which all
 * cost the same. [heads] */
export function bytesByHead({ blocksRead, blockTokens, kvBytes }: Reading): Float64Array {
  const tokens = Float64Array.from(blocksRead, (blocks, head) => blocks * blockTokens[head]!);
  const total = tokens.reduce((sum, count) => sum + count, 0);
  return tokens.map((count) => (total > 0 ? (count / total) * kvBytes : 0));
}

/** An answer of before, on average over its steps. */
export function readingOf(heads: HeadsOfAnswer): Reading {
  const { blockTokens, blocksRead, kvBytes } = heads;
  const measured = massHistoryOf(heads);
  const massKept = Float64Array.from(
    blocksRead,
    (_blocks, head) =>
      measured.reduce((sum, { massKept }) => sum + massKept[head]!, 0) / measured.length,
  );
  return { blockTokens, blocksRead, kvBytes, massKept: measured.length === 0 ? null : massKept };
}

/** The steps of an answer of before at which the mass kept was measured. */
export function massHistoryOf({ blocksRead, keptSteps, massKept }: HeadsOfAnswer): MeasuredMass[] {
  const heads = blocksRead.length;
  return keptSteps.map((step, index) => ({
    step,
    massKept: massKept.subarray(index * heads, (index + 1) * heads),
  }));
}
