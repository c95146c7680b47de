import type { Box } from "../../contract/answer.ts";
import type {
  DocumentKind,
  ExtractionReport,
  OutlineEntry,
  Page,
  PageStatus,
} from "../../contract/documents.ts";
import type { ErrorCode, ErrorValue, Result } from "../../contract/errors.ts";
import { formatRanges, summarise } from "./report.ts";

export type { DocumentKind, ExtractionReport, OutlineEntry, Page, PageStatus };

/** Units of a box coordinate: 65535 is the page's whole width or height. */
export const boxScale = 65535;

/** What a parser gives: plain data, so that it can cross from the worker. */
export interface DocumentContent {
  /** SHA-256 of the file's bytes, hexadecimal. */
  id: string;
  /** The file's name without its folders. */
  name: string;
  kind: DocumentKind;
  title?: string;
  /** The whole text: lines end with LF, there is no NUL and no lone surrogate. */
  text: string;
  pages: Page[];
  /** Left, top, right, bottom of each UTF-16 unit of `text`, `[text.length × 4]`, as parts of
   * {@link boxScale} of the page's width and height; all zero where nothing is drawn. */
  boxes?: Uint16Array;
  outline: OutlineEntry[];
  report: ExtractionReport;
}

/** The part of a document that was chosen, and the whole it was chosen from. */
export interface Selection {
  /** The chosen pages, e.g. `1-20,25`. */
  ranges: string;
  /** Pages and UTF-16 units of the whole document. */
  wholePages: number;
  wholeCharacters: number;
}

export interface Failure {
  ok: false;
  error: ErrorValue;
}

export function failure(code: ErrorCode, message: string): Failure {
  return { ok: false, error: { code, message } };
}

/** A document as the rest of Scholia sees it, whatever kind of file it came from. */
export class Document implements DocumentContent {
  readonly id: string;
  readonly name: string;
  readonly kind: DocumentKind;
  readonly title?: string;
  readonly text: string;
  readonly pages: Page[];
  readonly boxes?: Uint16Array;
  readonly outline: OutlineEntry[];
  readonly report: ExtractionReport;
  /** Present when these are not all the pages of the file. */
  readonly selection?: Selection;

  constructor(content: DocumentContent, selection?: Selection) {
    this.id = content.id;
    this.name = content.name;
    this.kind = content.kind;
    if (content.title !== undefined) this.title = content.title;
    this.text = content.text;
    this.pages = content.pages;
    if (content.boxes) this.boxes = content.boxes;
    this.outline = content.outline;
    this.report = content.report;
    if (selection) this.selection = selection;
  }

  /** Pages of the whole file, chosen or not. */
  get wholePageCount(): number {
    return this.selection?.wholePages ?? this.pages.length;
  }

  /** The pages of this document as a range, e.g. `1-20,25`. */
  get pageRange(): string {
    return formatRanges(this.pages.map((page) => page.number));
  }

  /** Numbers of the pages that give nothing to read: empty, scanned or broken. */
  get pagesWithoutText(): number[] {
    return this.pages
      .filter((page) => page.status !== "text" && page.status !== "garbled")
      .map((page) => page.number);
  }

  /** The page that holds the character at `offset`; offsets outside the text give the first or the
   * last page. A document has at least one page. */
  pageOf(offset: number): Page {
    let low = 0;
    let high = this.pages.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.pages[middle]!.start <= offset) low = middle;
      else high = middle - 1;
    }
    return this.pages[low]!;
  }

  /** Where the characters `[start, end)` stand on their pages: one box for each run of characters
   * on a line. Empty for kinds without a layout. */
  boxesOf(start: number, end: number): Box[] {
    if (!this.boxes) return [];
    const found: Box[] = [];
    let offset = Math.max(0, start);
    const last = Math.min(end, this.text.length);
    while (offset < last) {
      const page = this.pageOf(offset);
      const until = Math.min(last, page.end);
      if (until <= offset) break;
      found.push(...lineBoxes(this.boxes, page, offset, until));
      offset = until;
    }
    return found;
  }

  /** The text of the pages with physical numbers from `first` to `last`, both included; pages that
   * are not part of this document add nothing. */
  textOfPages(first: number, last: number): string {
    return this.pages
      .filter((page) => page.number >= first && page.number <= last)
      .map((page) => this.text.slice(page.start, page.end))
      .join("");
  }
}

interface Edges {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

/** Joins the boxes of neighbouring characters while they stay on one line. */
function lineBoxes(boxes: Uint16Array, page: Page, start: number, end: number): Box[] {
  const lines: Edges[] = [];
  let last: Edges | undefined;
  for (let at = start * 4; at < end * 4; at += 4) {
    const edges = {
      left: boxes[at]!,
      top: boxes[at + 1]!,
      right: boxes[at + 2]!,
      bottom: boxes[at + 3]!,
    };
    if (edges.right <= edges.left || edges.bottom <= edges.top) continue;
    const line = lines.at(-1);
    if (line && last && (sharesHeight(line, edges) || isStacked(last, edges))) {
      line.left = Math.min(line.left, edges.left);
      line.top = Math.min(line.top, edges.top);
      line.right = Math.max(line.right, edges.right);
      line.bottom = Math.max(line.bottom, edges.bottom);
    } else {
      lines.push({ ...edges });
    }
    last = edges;
  }
  const x = (page.width ?? 0) / boxScale;
  const y = (page.height ?? 0) / boxScale;
  return lines.map(({ left, top, right, bottom }) => ({
    page: page.number,
    left: left * x,
    top: top * y,
    width: (right - left) * x,
    height: (bottom - top) * y,
  }));
}

const overlap = (a: number, b: number, c: number, d: number): number =>
  Math.min(b, d) - Math.max(a, c);

/** On one line: at least half of the lower one's height is shared. */
const sharesHeight = (a: Edges, b: Edges): boolean =>
  overlap(a.top, a.bottom, b.top, b.bottom) * 2 >= Math.min(a.bottom - a.top, b.bottom - b.top);

/** On one line that runs up or down: one right below or above the other. */
const isStacked = (a: Edges, b: Edges): boolean =>
  overlap(a.left, a.right, b.left, b.right) * 2 >= Math.min(a.right - a.left, b.right - b.left) &&
  -overlap(a.top, a.bottom, b.top, b.bottom) * 2 <= Math.max(a.bottom - a.top, b.bottom - b.top);

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
