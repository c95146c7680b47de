/** The read map of an answer: what its trace frames said the heads read, gathered for the whole answer,
 * for each of its sentences and for each head, small enough to be kept with the turn. */
import type { ContextShare, HeadsOfAnswer, ReadMap } from "../../contract/chats.ts";
import { decodeMessage, encodeMessage } from "../../contract/codec.ts";
import { decodeTrace, type TraceFrame } from "../../contract/trace.ts";
import { sentencesOf } from "./sentences.ts";

/** A strip as it is kept: values are bytes / 255 × scale. */
interface KeptStrip {
  scale: number;
  values: Uint8Array;
}
interface KeptHeads {
  blockTokens: number[];
  blocksRead: Float32Array;
  kvBytes: number;
  keptSteps: number[];
  /** [steps][heads] value = u8 / 255 */
  massKept: Uint8Array;
}
interface KeptMap {
  version: 1 | 2;
  documentTokens: number;
  pages: number[];
  tokensOfPages: number[];
  whole: KeptStrip;
  sentences: { start: number; end: number; strip: KeptStrip }[];
  /** From version 2 on. */
  heads?: KeptHeads;
}

export class ReadMapCollector {
  private readonly steps: { at: number; strip: Float32Array }[] = [];
  private readonly heads = new HeadsCollector();

  /** @param at characters of the answer that were written before this step's token */
  add(frame: Uint8Array, at: number): void {
    const trace = decodeTrace(frame);
    this.steps.push({ at, strip: trace.mean });
    this.heads.add(trace);
  }

  /** @returns null when nothing was traced */
  encode(text: string, context: ContextShare): Uint8Array | null {
    const [first] = this.steps;
    if (first === undefined) return null;
    const sentences = sentencesOf(text).map(({ start, end }, index, all) => {
      // A token between two sentences counts to the one it leads to.
      const from = index === 0 ? 0 : all[index - 1]!.end;
      const steps = this.steps.filter(({ at }) => from <= at && at < end);
      return { start, end, strip: keep(meanOf(steps, first.strip.length)) };
    });
    const kept: KeptMap = {
      version: 2,
      documentTokens: context.documentTokens,
      pages: context.pages.map(({ number }) => number),
      tokensOfPages: context.pages.map(({ tokens }) => tokens),
      whole: keep(meanOf(this.steps, first.strip.length)),
      sentences,
      heads: this.heads.kept(),
    };
    return encodeMessage(kept) as Uint8Array;
  }
}

/** Gathers what each head read, over the steps of an answer. */
class HeadsCollector {
  private steps = 0;
  private blockTokens: number[] = [];
  private blocks = new Float64Array(0);
  private kvBytes = 0;
  private readonly measured: { step: number; massKept: Float32Array }[] = [];

  add({ blockTokens, blocksRead, kvBytes, massKept }: TraceFrame): void {
    if (this.steps === 0) this.blocks = new Float64Array(blocksRead.length);
    this.blockTokens = [...blockTokens];
    blocksRead.forEach((blocks, head) => {
      this.blocks[head]! += blocks;
    });
    this.kvBytes += kvBytes;
    if (massKept !== null) this.measured.push({ step: this.steps, massKept });
    this.steps++;
  }

  kept(): KeptHeads {
    return {
      blockTokens: this.blockTokens,
      blocksRead: Float32Array.from(this.blocks, (sum) => sum / this.steps),
      kvBytes: this.kvBytes / this.steps,
      keptSteps: this.measured.map(({ step }) => step),
      massKept: Uint8Array.from(
        this.measured.flatMap(({ massKept }) => [...massKept]),
        (share) => Math.round(share * 255),
      ),
    };
  }
}

/** @returns null for what this version does not understand */
export function decodeReadMap(bytes: Uint8Array): ReadMap | null {
  const kept = decodeMessage(bytes) as KeptMap;
  if (kept.version !== 1 && kept.version !== 2) return null;
  return {
    documentTokens: kept.documentTokens,
    pages: kept.pages.map((number, index) => ({ number, tokens: kept.tokensOfPages[index] ?? 0 })),
    bins: kept.whole.values.length,
    whole: restore(kept.whole),
    sentences: kept.sentences.map(({ start, end, strip }) => ({
      start,
      end,
      strip: restore(strip),
    })),
    heads: kept.heads === undefined ? null : restoreHeads(kept.heads),
  };
}

function restoreHeads(heads: KeptHeads): HeadsOfAnswer {
  return { ...heads, massKept: Float32Array.from(heads.massKept, (share) => share / 255) };
}

function meanOf(steps: { strip: Float32Array }[], bins: number): Float32Array {
  const mean = new Float32Array(bins);
  for (const { strip } of steps) {
    for (let bin = 0; bin < bins; bin++) mean[bin]! += (strip[bin] ?? 0) / steps.length;
  }
  return mean;
}

function keep(strip: Float32Array): KeptStrip {
  const scale = strip.reduce((most, value) => Math.max(most, value), 0);
  const values = Uint8Array.from(strip, (value) =>
    scale > 0 ? Math.round((value / scale) * 255) : 0,
  );
  return { scale, values };
}

function restore({ scale, values }: KeptStrip): Float32Array {
  return Float32Array.from(values, (value) => (value / 255) * scale);
}
