/** The strip along the document: what the heads read of it. The strip is divided by tokens; pages
 * are as long as their tokens. */
import { viridis } from "./colour.ts";
import type { Surface } from "./surface.ts";

export interface PageTokens {
  number: number;
  tokens: number;
}

/** Where pages begin along the strip, as shares of the document's tokens. */
export interface PageScale {
  pages: readonly PageTokens[];
  /** [pages + 1] ascending from 0 to 1 */
  edges: readonly number[];
}

export function pageScale(pages: readonly PageTokens[]): PageScale {
  const total = pages.reduce((sum, page) => sum + page.tokens, 0);
  const edges = [0];
  let tokens = 0;
  for (const [index, page] of pages.entries()) {
    tokens += page.tokens;
    // Pages without a token share the strip evenly where there is no token at all.
    edges.push(total > 0 ? tokens / total : (index + 1) / pages.length);
  }
  return { pages, edges };
}

/** @param share along the strip, 0 to 1
 * @returns the page there and how far down that page, 0 to 1; null without pages */
export function pageAt(scale: PageScale, share: number): { page: number; within: number } | null {
  const { pages, edges } = scale;
  if (pages.length === 0) return null;
  const clamped = Math.min(1, Math.max(0, share));
  // The last page that begins at or before the place; empty pages lie between others.
  let index = 0;
  while (index < pages.length - 1 && edges[index + 1]! <= clamped) index++;
  const length = edges[index + 1]! - edges[index]!;
  return {
    page: pages[index]!.number,
    within: length > 0 ? Math.min(1, (clamped - edges[index]!) / length) : 0,
  };
}

/** The reverse of {@link pageAt}; null for a page that was not read. */
export function shareOf(scale: PageScale, page: number, within: number): number | null {
  const index = scale.pages.findIndex(({ number }) => number === page);
  if (index === -1) return null;
  const begin = scale.edges[index]!;
  return begin + (scale.edges[index + 1]! - begin) * within;
}

/** Which values of a strip over some pages each bin of a strip over all pages takes. */
export interface Spread {
  /** [bins] -1: nothing was read there. */
  first: Int32Array;
  /** [bins] exclusive */
  last: Int32Array;
}

/** @param some pages that the values divide evenly by their tokens
 * @param count of the values */
export function planSpread(some: PageScale, all: PageScale, bins: number, count: number): Spread {
  const plan = { first: new Int32Array(bins).fill(-1), last: new Int32Array(bins) };
  for (let bin = 0; bin < bins; bin++) {
    const from = pageAt(all, bin / bins);
    const to = pageAt(all, (bin + 1) / bins);
    if (from === null || to === null) continue;
    const begin = shareOf(some, from.page, from.within);
    if (begin === null) continue;
    // A bin that reaches into the next page takes what lies on its first one.
    const end = shareOf(some, from.page, to.page === from.page ? to.within : 1) ?? begin;
    const first = Math.min(count - 1, Math.floor(begin * count));
    plan.first[bin] = first;
    plan.last[bin] = Math.min(count, Math.max(first + 1, Math.ceil(end * count)));
  }
  return plan;
}

/** The largest of the values that each bin takes; NaN where nothing was read.
 * @returns [bins] */
export function spread(values: ArrayLike<number>, { first, last }: Spread): Float32Array {
  const out = new Float32Array(first.length).fill(Number.NaN);
  for (let bin = 0; bin < out.length; bin++) {
    if (first[bin]! < 0) continue;
    let largest = 0;
    for (let at = first[bin]!; at < last[bin]!; at++) largest = Math.max(largest, values[at]!);
    out[bin] = largest;
  }
  return out;
}

/** The largest value of the bins that a pixel covers, so that no narrow peak is lost; NaN where
 * all of them are.
 * @returns [pixels] */
export function resample(values: ArrayLike<number>, pixels: number): Float32Array {
  const out = new Float32Array(Math.max(0, pixels));
  for (let pixel = 0; pixel < out.length; pixel++) {
    const begin = Math.floor((pixel * values.length) / out.length);
    const end = Math.max(begin + 1, Math.ceil(((pixel + 1) * values.length) / out.length));
    let largest = Number.NaN;
    for (let bin = begin; bin < end && bin < values.length; bin++)
      if (!(values[bin]! <= largest)) largest = values[bin]!;
    out[pixel] = largest;
  }
  return out;
}

/** Attention is very uneven: the root lets weak passages be seen beside the strongest. */
export const shade = (value: number, largest: number): number =>
  largest > 0 ? Math.sqrt(Math.min(1, Math.max(0, value / largest))) : 0;

export interface ReadMapStyle {
  ground: string;
  /** Tint of what is read so far, while the document is being read. */
  read: string;
  tick: string;
  /** Frame around the part of the document that is in view. */
  view: string;
}

export interface ReadMapContent {
  /** [bins] over the document, or null when there is no answer to show. */
  values: ArrayLike<number> | null;
  /** Share of the document that is read, 0 to 1. */
  readShare: number;
  /** Shares along the strip. */
  citations: readonly number[];
  /** Part in view, shares along the strip. */
  view: { begin: number; end: number } | null;
}

export function drawReadMap(
  surface: Surface,
  width: number,
  height: number,
  content: ReadMapContent,
  style: ReadMapStyle,
): void {
  surface.fill({ x: 0, y: 0, width, height }, style.ground);
  if (content.values === null) {
    surface.fill({ x: 0, y: 0, width, height: height * content.readShare }, style.read);
  } else {
    drawValues(surface, width, height, content.values);
  }
  for (const share of content.citations)
    surface.fill({ x: 0, y: Math.round(share * (height - 3)), width, height: 3 }, style.tick);
  if (content.view !== null) {
    const y = Math.round(content.view.begin * height) + 0.5;
    const end = Math.round(content.view.end * height) - 0.5;
    surface.stroke(
      { x: 0.75, y, width: width - 1.5, height: Math.max(4, end - y) },
      style.view,
      1.5,
    );
  }
}

function drawValues(
  surface: Surface,
  width: number,
  height: number,
  values: ArrayLike<number>,
): void {
  const rows = resample(values, Math.round(height));
  let largest = 0;
  for (const value of rows) if (value > largest) largest = value;
  // Neighbouring rows of one colour become one rectangle.
  let begin = 0;
  for (let row = 1; row <= rows.length; row++) {
    const colour = colourOf(rows[begin]!, largest);
    if (row < rows.length && colourOf(rows[row]!, largest) === colour) continue;
    if (colour !== null) surface.fill({ x: 0, y: begin, width, height: row - begin }, colour);
    begin = row;
  }
}

/** Null where nothing was read. */
const colourOf = (value: number, largest: number): string | null =>
  Number.isNaN(value) ? null : viridis(shade(value, largest));
