/** What a window shows of a document's text: its pages, the lines on them, and where words stand. */
import type {
  DocumentDetail,
  FindResult,
  FoundPassage,
  PageText,
} from "../../contract/documents.ts";
import { ScholiaError } from "../../contract/errors.ts";
import type { Document } from "./document.ts";

export function detailOf(document: Document, title: string): DocumentDetail {
  return {
    id: document.id,
    title,
    kind: document.kind,
    pages: document.pages,
    characters: document.text.length,
    documentPages: document.wholePageCount,
    hasLayout: document.boxes !== undefined,
    outline: document.outline,
    report: document.report,
  };
}

/** @throws ScholiaError `document_bad_range` */
export function pageText(document: Document, number: number): PageText {
  const page = document.pages.find((page) => page.number === number);
  if (page === undefined) {
    throw new ScholiaError("document_bad_range", `Page ${number} is not among the chosen pages.`);
  }
  return {
    number,
    start: page.start,
    text: document.text.slice(page.start, page.end),
    lines: document.linesOf(page),
  };
}

const aroundCharacters = 60;

/** All places of the words of the query, whatever their case and however lines are broken. */
export function find(document: Document, query: string, limit: number): FindResult {
  const words = query.split(/\s+/).filter(Boolean);
  const passages: FoundPassage[] = [];
  let total = 0;
  if (words.length === 0) return { passages, total };
  const pattern = words.map((word) => word.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&")).join("\\s+");
  for (const { index, 0: match } of document.text.matchAll(new RegExp(pattern, "giu"))) {
    total++;
    if (passages.length < limit) passages.push(passageAt(document, index, index + match.length));
  }
  return { passages, total };
}

function passageAt(document: Document, start: number, end: number): FoundPassage {
  const text = (from: number, until: number) =>
    document.text.slice(Math.max(0, from), until).replace(/\s+/g, " ");
  return {
    page: document.pageOf(start).number,
    start,
    end,
    before: text(start - aroundCharacters, start),
    match: text(start, end),
    after: text(end, end + aroundCharacters),
    boxes: document.boxesOf(start, end),
  };
}
