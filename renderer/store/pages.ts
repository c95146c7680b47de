/** Ranges of pages and places in their text. */
import type { DocumentDetail } from "../../contract/documents.ts";

/** @param range as `--pages` takes them, e.g. "1-20,25" or "30-"
 * @returns the pages in ascending order; empty when the range is none */
export function pagesInRange(range: string, count: number): number[] {
  const pages = new Set<number>();
  for (const part of range.split(",")) {
    const found = /^\s*(\d+)\s*(?:(-)\s*(\d*)\s*)?$/.exec(part);
    if (found === null) return [];
    const first = Number(found[1]);
    const last = found[2] === undefined ? first : found[3] === "" ? count : Number(found[3]);
    for (let page = first; page <= Math.min(last, count); page++) pages.add(page);
  }
  return [...pages].filter((page) => page >= 1).sort((a, b) => a - b);
}

/** A place in the text of chosen pages as a place in the text of the whole document.
 * @param pages null: all of them were chosen
 * @returns null for a place beyond the text */
export function placeInDocument(
  detail: DocumentDetail,
  pages: string | null,
  at: number,
): number | null {
  if (pages === null) return at;
  let before = 0;
  for (const number of pagesInRange(pages, detail.documentPages)) {
    const page = detail.pages.find((candidate) => candidate.number === number);
    if (page === undefined) continue;
    const length = page.end - page.start;
    if (at < before + length) return page.start + at - before;
    before += length;
  }
  return null;
}
