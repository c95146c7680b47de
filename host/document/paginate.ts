import type { OutlineEntry, Page } from "./document.ts";
import { pageStatus } from "./report.ts";

/** A heading in a text: where its line begins, its depth from 1, and its words. */
export interface Heading {
  offset: number;
  level: number;
  title: string;
}

/** UTF-16 units of a page of text: about what a printed page holds. */
const pageUnits = 3000;

/** Cuts a text without pages of its own into pages of about a printed page's length: at form feeds
 * where it has some, then at a heading, an empty line, a line end, a sentence end or a space, in
 * that order, between half and one and a half times the length. Every text gives at least one page. */
export function paginate(text: string, headings: Heading[]): Page[] {
  const pages: Page[] = [];
  let start = 0;
  for (const end of segmentEnds(text)) {
    // A printed page may hold more than ours; it is cut only when it is far too long.
    const keep = end < text.length || start > 0 ? 2 * pageUnits : 1.5 * pageUnits;
    while (end - start > keep) {
      const cut = cutPoint(text, start, headings);
      pages.push(makePage(text, start, cut, pages.length + 1, headings));
      start = cut;
    }
    if (end > start || pages.length === 0) {
      pages.push(makePage(text, start, end, pages.length + 1, headings));
    }
    start = end;
  }
  return pages;
}

/** The outline that the headings make over these pages. */
export function outlineOf(headings: Heading[], pages: Page[]): OutlineEntry[] {
  let index = 0;
  return headings.map(({ offset, level, title }) => {
    while (index + 1 < pages.length && pages[index + 1]!.start <= offset) index++;
    return { title, level, page: pages[index]!.number };
  });
}

/** Ends of the parts between form feeds; a form feed belongs to the part before it. */
function segmentEnds(text: string): number[] {
  const ends: number[] = [];
  for (let at = text.indexOf("\f"); at !== -1; at = text.indexOf("\f", at + 1)) {
    if (at + 1 < text.length) ends.push(at + 1);
  }
  return [...ends, text.length];
}

function cutPoint(text: string, start: number, headings: Heading[]): number {
  const from = start + pageUnits / 2;
  const to = start + 1.5 * pageUnits;
  const near = firstFrom(headings, from);
  let best: Heading | undefined;
  for (let i = near; i < headings.length && headings[i]!.offset <= to; i++) {
    if (!best || headings[i]!.level < best.level) best = headings[i];
  }
  if (best) return best.offset;
  const window = text.slice(from, to);
  for (const breaks of [/\n[ \t]*\n+/g, /\n/g, /[.!?。！？]["”’)]*\s|[。！？]/g, /\s/g]) {
    const cut = nearestBreak(window, breaks);
    if (cut !== undefined) return from + cut;
  }
  const cut = start + pageUnits;
  const splitsPair = /[\ud800-\udbff]/.test(text.charAt(cut - 1));
  return splitsPair ? cut + 1 : cut;
}

/** The end of the break nearest to the middle of the window. */
function nearestBreak(window: string, breaks: RegExp): number | undefined {
  const middle = window.length / 2;
  let best: number | undefined;
  for (const match of window.matchAll(breaks)) {
    const end = match.index + match[0].length;
    if (best === undefined || Math.abs(end - middle) < Math.abs(best - middle)) best = end;
  }
  return best;
}

/** Index of the first heading at or after an offset. */
function firstFrom(headings: Heading[], offset: number): number {
  let low = 0;
  let high = headings.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (headings[middle]!.offset < offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

function makePage(
  text: string,
  start: number,
  end: number,
  number: number,
  headings: Heading[],
): Page {
  const page: Page = {
    number,
    label: String(number),
    start,
    end,
    status: pageStatus(text.slice(start, end)),
  };
  const next = firstFrom(headings, start);
  const atStart = headings[next]?.offset === start ? headings[next] : headings[next - 1];
  const heading = atStart ?? headings[next];
  if (heading && heading.offset < end) page.heading = heading.title;
  return page;
}
