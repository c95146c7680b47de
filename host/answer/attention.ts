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

/** Of all attention to the document; when less stands out, it is even. */
const leastStanding = 0.01;

/** A run of KV pages that stands out. */
export interface AttendedPages {
  /** KV pages [first, end). */
  first: number;
  end: number;
  /** How many times the document's average KV page its best one stands out. */
  score: number;
}

/** A run reaches to both sides as far as this share of its best KV page, at most so many pages. */
const runShare = 0.8;
const runReach = 2;

/** Mass per KV page of one step, weighted mean over heads.
 * @param weights [heads], their sum is 1 */
export function pageMasses(trace: MassTrace, weights: ArrayLike<number>): Float32Array {
  const pages = new Float32Array(Math.ceil(trace.depthTokens / kvPageTokens));
  for (let head = 0; head < trace.blockTokens.length; head++) {
    const weight = weights[head]!;
    if (weight === 0) continue;
    const pagesPerBlock = trace.blockTokens[head]! / kvPageTokens;
    for (let at = trace.blockOffset[head]!; at < trace.blockOffset[head + 1]!; at++) {
      const first = trace.blockIndex[at]! * pagesPerBlock;
      const last = Math.min(first + pagesPerBlock, pages.length);
      const share = (trace.mass[at]! * weight) / (last - first);
      for (let page = first; page < last; page++) pages[page]! += share;
    }
  }
  return pages;
}

/** Gathers the masses of an answer's steps, in stretches of text that end where a sentence may. */
export class AttentionMap {
  private readonly hasSteadyPart: boolean;
  private readonly firstPage: number;
  private readonly endPage: number;
  private steps = 0;
  /** Σ √mass over all steps, [pages] */
  private readonly roots: Float64Array;
  private readonly stretches: { start: number; steps: number; mass: Float64Array }[] = [];
  private stretchIsOpen = false;

  /** @param documentStart, documentEnd the document's tokens in the sequence.
   * @param hasSteadyPart whether pages draw attention at every step, whatever it writes */
  constructor(documentStart: number, documentEnd: number, hasSteadyPart: boolean) {
    this.hasSteadyPart = hasSteadyPart;
    this.firstPage = Math.ceil(Math.max(documentStart, sinkTokens) / kvPageTokens);
    this.endPage = Math.ceil(documentEnd / kvPageTokens);
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

  /** Where in the document attention stands out while the characters [start, end) of the answer were
   * written, best first; runs of KV pages that do not touch.
   *
   * A page that draws the same attention of all heads at every step says nothing: its steady part over the
   * whole answer, (mean √mass)², is taken off. √ keeps a few strong steps from raising it, so that what an
   * answer of a single sentence rests on stands out too. */
  standOut(start: number, end: number, atMost: number, leastScore: number): AttendedPages[] {
    const within = this.stretches.filter(
      (stretch) => start <= stretch.start && stretch.start < end,
    );
    const steps = within.reduce((sum, stretch) => sum + stretch.steps, 0);
    if (steps === 0) return [];
    let all = 0;
    const standing = [...this.roots].map((roots, page) => {
      const mean = within.reduce((sum, stretch) => sum + stretch.mass[page]!, 0) / steps;
      all += mean;
      return this.hasSteadyPart ? Math.max(0, mean - (roots / this.steps) ** 2) : mean;
    });
    const total = standing.reduce((sum, mass) => sum + mass, 0);
    if (!(total > leastStanding * all)) return [];
    const scores = standing.map((mass) => (mass / total) * standing.length);
    const best = scores.map((_score, page) => page).filter((page) => scores[page]! >= leastScore);
    best.sort((a, b) => scores[b]! - scores[a]! || a - b);
    const runs: AttendedPages[] = [];
    for (const page of best) {
      if (runs.length === atMost) break;
      const run = this.runAround(page, scores);
      if (runs.every((other) => run.end < other.first || other.end < run.first)) runs.push(run);
    }
    return runs;
  }

  private runAround(page: number, scores: number[]): AttendedPages {
    const least = runShare * scores[page]!;
    let first = page;
    while (page - first < runReach && (scores[first - 1] ?? 0) >= least) first--;
    let end = page + 1;
    while (end - page <= runReach && (scores[end] ?? 0) >= least) end++;
    return { first: this.firstPage + first, end: this.firstPage + end, score: scores[page]! };
  }
}
