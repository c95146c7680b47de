/** The read map of an answer: what its trace frames said the heads read, gathered for the whole answer
 * and for each of its sentences, small enough to be kept with the turn. */
import type { ContextShare, ReadMap } from "../../contract/chats.ts";
import { decodeMessage, encodeMessage } from "../../contract/codec.ts";
import { decodeTrace } from "../../contract/trace.ts";
import { sentencesOf } from "./sentences.ts";

/** A strip as it is kept: values are bytes / 255 × scale. */
interface KeptStrip {
  scale: number;
  values: Uint8Array;
}
interface KeptMap {
  version: 1;
  documentTokens: number;
  pages: number[];
  tokensOfPages: number[];
  whole: KeptStrip;
  sentences: { start: number; end: number; strip: KeptStrip }[];
}

export class ReadMapCollector {
  private readonly steps: { at: number; strip: Float32Array }[] = [];

  /** @param at characters of the answer that were written before this step's token */
  add(frame: Uint8Array, at: number): void {
    this.steps.push({ at, strip: decodeTrace(frame).mean });
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
      version: 1,
      documentTokens: context.documentTokens,
      pages: context.pages.map(({ number }) => number),
      tokensOfPages: context.pages.map(({ tokens }) => tokens),
      whole: keep(meanOf(this.steps, first.strip.length)),
      sentences,
    };
    return encodeMessage(kept) as Uint8Array;
  }
}

/** @returns null for what this version does not understand */
export function decodeReadMap(bytes: Uint8Array): ReadMap | null {
  const kept = decodeMessage(bytes) as KeptMap;
  if (kept.version !== 1) return null;
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
  };
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
