/** What the heads read while an answer was written: their attention mass, gathered over the document
 * in KV pages of 16 tokens, for each sentence of the answer. */

export const kvPageTokens = 16;
/** The first tokens draw attention whatever the text (attention sinks, StreamingLLM), the last ones
 * because they are near; neither says what an answer rests on. As in the decode plan. */
const sinkTokens = 64;
const localTokens = 128;

/** The engine's trace of a decode step, masses included. */
export interface MassTrace {
  depthTokens: number;
  /** [heads] */
  blockTokens: Uint16Array;
  /** [heads + 1] */
  blockOffset: Uint32Array;
  /** Ragged over heads: kv_block index within the head's own block size. */
  blockIndex: Uint32Array;
  /** Ragged over heads: share of attention, mean over the group's query heads. */
  mass: Float32Array;
}

export interface AttendedPage {
  kvPage: number;
  /** How much more attention than the document's average. */
  score: number;
}

/** Mass per KV page of one step, mean over heads. */
export function pageMasses(trace: MassTrace): Float32Array {
  const pages = new Float32Array(Math.ceil(trace.depthTokens / kvPageTokens));
  const heads = trace.blockTokens.length;
  for (let head = 0; head < heads; head++) {
    const pagesPerBlock = trace.blockTokens[head]! / kvPageTokens;
    for (let at = trace.blockOffset[head]!; at < trace.blockOffset[head + 1]!; at++) {
      const first = trace.blockIndex[at]! * pagesPerBlock;
      const last = Math.min(first + pagesPerBlock, pages.length);
      const share = trace.mass[at]! / ((last - first) * heads);
      for (let page = first; page < last; page++) pages[page]! += share;
    }
  }
  return pages;
}

/** Gathers the masses of an answer's steps, in stretches of text that end where a sentence may. */
export class AttentionMap {
  private readonly firstPage: number;
  private readonly endPage: number;
  private readonly documentEnd: number;
  private steps = 0;
  /** Σ √mass over all steps, [pages] */
  private readonly roots: Float64Array;
  private readonly stretches: { start: number; steps: number; mass: Float64Array }[] = [];
  private stretchIsOpen = false;

  /** @param documentStart, documentEnd the document's tokens in the sequence. */
  constructor(documentStart: number, documentEnd: number) {
    this.firstPage = Math.ceil(Math.max(documentStart, sinkTokens) / kvPageTokens);
    this.endPage = Math.ceil(documentEnd / kvPageTokens);
    this.documentEnd = documentEnd;
    this.roots = new Float64Array(Math.max(0, this.endPage - this.firstPage));
  }

  /** Adds the step that a token of the answer was chosen from.
   * @param text the token's own; @param at where it stands in the answer. */
  add(masses: Float32Array, depthTokens: number, text: string, at: number): void {
    if (!this.stretchIsOpen) {
      this.stretches.push({ start: at, steps: 0, mass: new Float64Array(this.roots.length) });
    }
    this.stretchIsOpen = !/[.!?:;\n。！？]/.test(text);
    const stretch = this.stretches.at(-1)!;
    stretch.steps++;
    this.steps++;
    const firstLocal = Math.floor((depthTokens - localTokens) / kvPageTokens);
    const end = Math.min(this.endPage, firstLocal, masses.length);
    for (let page = this.firstPage; page < end; page++) {
      const mass = masses[page]!;
      stretch.mass[page - this.firstPage]! += mass;
      this.roots[page - this.firstPage]! += Math.sqrt(mass);
    }
  }

  /** The KV pages that stand out while the characters [start, end) of the answer were written, best
   * first.
   *
   * A page that draws the same attention at every step says nothing: its steady part over the whole
   * answer, (mean √mass)², is taken off. √ keeps a few strong steps from raising it. The rest is
   * measured against the average page of the document. */
  standOut(start: number, end: number, atMost: number, leastScore: number): AttendedPage[] {
    const within = this.stretches.filter(
      (stretch) => start <= stretch.start && stretch.start < end,
    );
    const steps = within.reduce((sum, stretch) => sum + stretch.steps, 0);
    if (steps === 0) return [];
    let total = 0;
    const standing = Float64Array.from(this.roots, (roots, page) => {
      const mean = within.reduce((sum, stretch) => sum + stretch.mass[page]!, 0) / steps;
      total += mean;
      return Math.max(0, mean - (roots / this.steps) ** 2);
    });
    const average = total / Math.max(1, this.documentEnd / kvPageTokens - this.firstPage);
    if (!(average > 0)) return [];
    return [...standing]
      .map((mass, page) => ({ kvPage: this.firstPage + page, score: mass / average }))
      .filter(({ score }) => score >= leastScore)
      .sort((a, b) => b.score - a.score || a.kvPage - b.kvPage)
      .slice(0, atMost);
  }
}
