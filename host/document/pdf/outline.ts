import type { OutlineEntry } from "../document.ts";
import type { Pdfium } from "./pdfium.ts";

const mostEntries = 20_000;
const deepest = 32;

/** The bookmarks of a PDF in reading order. Entries that lead nowhere in the document take the page
 * of the entry before them. Bounded in number and depth, and safe against cycles. */
export function readOutline(pdfium: Pdfium, document: number, pageCount: number): OutlineEntry[] {
  const entries: OutlineEntry[] = [];
  const seen = new Set<number>();
  const walk = (parent: number, level: number): void => {
    let bookmark = pdfium.FPDFBookmark_GetFirstChild(document, parent);
    while (bookmark !== 0 && !seen.has(bookmark) && entries.length < mostEntries) {
      seen.add(bookmark);
      const current = bookmark;
      const title = pdfium
        .string((buffer, bytes) => pdfium.FPDFBookmark_GetTitle(current, buffer, bytes))
        .replace(/\s+/g, " ")
        .trim();
      const index = targetPage(pdfium, document, bookmark);
      const known = index >= 0 && index < pageCount;
      const page = known ? index + 1 : (entries.at(-1)?.page ?? 1);
      if (title) entries.push({ title, level, page });
      if (level < deepest) walk(bookmark, level + 1);
      bookmark = pdfium.FPDFBookmark_GetNextSibling(document, bookmark);
    }
  };
  walk(0, 1);
  return entries;
}

/** Index of the page a bookmark leads to, −1 for none. */
function targetPage(pdfium: Pdfium, document: number, bookmark: number): number {
  let destination = pdfium.FPDFBookmark_GetDest(document, bookmark);
  if (destination === 0) {
    const action = pdfium.FPDFBookmark_GetAction(bookmark);
    if (action !== 0) destination = pdfium.FPDFAction_GetDest(document, action);
  }
  return destination === 0 ? -1 : pdfium.FPDFDest_GetDestPageIndex(document, destination);
}
