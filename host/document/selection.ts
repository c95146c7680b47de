/** Which pages of a document are read: `--pages`. */
import type { Result } from "../../contract/errors.ts";
import {
  Document,
  type DocumentContent,
  type Failure,
  failure,
  type Selection,
} from "./document.ts";
import { formatRanges } from "./ranges.ts";
import { summarise } from "./report.ts";

/** Physical page numbers of a range such as `1-20,25` or `30-` (to the end), in rising order and
 * each once. Error `document_bad_range`: not a range, or pages that the document does not have. */
export function parsePageRange(range: string, pageCount: number): Result<number[]> {
  const example = `Give it as 1-${Math.max(1, Math.min(20, pageCount))} or 3,7-9.`;
  const chosen = new Set<number>();
  for (const part of range.split(",")) {
    const match = /^\s*(\d{1,9})\s*(?:([-–])\s*(\d{1,9})?)?\s*$/.exec(part);
    if (!match) {
      const message = `“${range}” is no range of pages. ${example}`;
      return failure("document_bad_range", message);
    }
    const first = Number(match[1]);
    const last = match[3] ? Number(match[3]) : match[2] ? pageCount : first;
    if (first < 1 || first > pageCount || last > pageCount) {
      const pages = pageCount === 1 ? "one page" : `${pageCount} pages`;
      const message = `Pages ${part.trim()} were asked for, but the document has ${pages}. ${example}`;
      return failure("document_bad_range", message);
    }
    if (last < first) {
      const message = `The range ${part.trim()} runs backwards. ${example}`;
      return failure("document_bad_range", message);
    }
    for (let page = first; page <= last; page++) chosen.add(page);
  }
  return { ok: true, value: [...chosen].sort((a, b) => a - b) };
}

/** The chosen pages as a document of their own that remembers the whole. The text of a page is the
 * same in both, so the first pages are a prefix of the whole.
 * Errors: `document_bad_range`; `document_no_text` when the chosen pages hold none. */
export function selectPages(document: Document, range: string): Result<Document> {
  const parsed = parsePageRange(range, document.wholePageCount);
  if (!parsed.ok) return parsed;
  const byNumber = new Map(document.pages.map((page) => [page.number, page]));
  const missing = parsed.value.filter((number) => !byNumber.has(number));
  if (missing.length > 0) {
    const have = document.selection?.ranges ?? "";
    const message = `Pages ${formatRanges(missing)} are not among the pages that were read (${have}).`;
    return failure("document_bad_range", message);
  }
  const chosen = parsed.value.map((number) => byNumber.get(number)!);
  if (chosen.length === document.pages.length) return { ok: true, value: document };

  const text = chosen.map((page) => document.text.slice(page.start, page.end)).join("");
  const boxes = document.boxes && new Uint16Array(text.length * 4);
  let start = 0;
  const pages = chosen.map((page) => {
    boxes?.set(document.boxes!.subarray(page.start * 4, page.end * 4), start * 4);
    const placed = { ...page, start, end: start + page.end - page.start };
    start = placed.end;
    return placed;
  });
  const content: DocumentContent = {
    id: document.id,
    name: document.name,
    kind: document.kind,
    text,
    pages,
    outline: document.outline.filter((entry) => parsed.value.includes(entry.page)),
    report: { ...document.report, ...summarise(pages) },
  };
  if (document.title !== undefined) content.title = document.title;
  if (boxes) content.boxes = boxes;
  const selection: Selection = {
    ranges: formatRanges(parsed.value),
    wholePages: document.wholePageCount,
    wholeCharacters: document.selection?.wholeCharacters ?? document.text.length,
  };
  const unreadable = noTextError(content);
  return unreadable ?? { ok: true, value: new Document(content, selection) };
}

/** The error for content without anything to read; undefined when there is some. */
export function noTextError(content: DocumentContent): Failure | undefined {
  const { counts, summary } = content.report;
  if (counts.text + counts.garbled > 0) return undefined;
  if (counts.broken > 0 && counts.broken + counts.empty === content.pages.length) {
    const message = `${content.name} is damaged: ${summary} Try to get the file again.`;
    return failure("document_broken", message);
  }
  const remedy =
    content.kind === "pdf"
      ? "If a person can read it, it is a scan or drawn as curves: run it through text recognition (OCR) first, or export it again with text."
      : "There is nothing to read in it.";
  return failure("document_no_text", `${content.name} holds no text. ${summary} ${remedy}`);
}
