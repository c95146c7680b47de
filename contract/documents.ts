/** Documents as a window shows them: an entry of the library, pages, what was found on them. A
 * document is named by the SHA-256 of its file's bytes, hexadecimal. */
import { z } from "zod";
import type { Box } from "./answer.ts";
import type { ErrorValue } from "./errors.ts";

export const documentIdSchema = z.string().regex(/^[0-9a-f]{64}$/);

/** Pages as `--pages` takes them: "1-20,25" or "30-". */
export const pageRangeSchema = z.string().min(1).max(1000);

/** The file of the sample document. */
export const sampleName = "How Scholia reads.md";

export type DocumentKind = "pdf" | "markdown" | "text";

/** What could be got from a page:
 * `text`; `empty` (nothing to read on it); `scanned` (a picture covers it and there is hardly any
 * text: probably a scan); `garbled` (there is text, but its letters are not what a person sees on
 * the page); `broken` (the page could not be opened). */
export type PageStatus = "text" | "empty" | "scanned" | "garbled" | "broken";

export interface OutlineEntry {
  title: string;
  /** Depth, from 1. */
  level: number;
  /** Physical number of the page it leads to. */
  page: number;
}

export interface ExtractionReport {
  /** Pages by status. */
  counts: Record<PageStatus, number>;
  /** One sentence on all pages. */
  summary: string;
  /** What else a reader should know, e.g. that the file is cut short. One sentence each. */
  notes: string[];
  /** The encoding of a text file, e.g. `UTF-8`. */
  encoding?: string;
}

/** A page of a PDF, or a section of about a page's length of Markdown or plain text. */
export interface Page {
  /** Physical number, from 1. It stays the same when a range of pages is selected. */
  number: number;
  /** The number printed on the page, e.g. `iv`; the physical number where none is known. */
  label: string;
  /** Offsets into the document's text, in UTF-16 units, end exclusive. Pages tile the text. */
  start: number;
  end: number;
  status: PageStatus;
  /** The heading this page begins under (Markdown and plain text). */
  heading?: string;
  /** Size as shown, in points of 1/72 inch (PDF). */
  width?: number;
  height?: number;
}

/** A document in the library. */
export interface DocumentEntry {
  id: string;
  /** The person's own name for it, else the file's title, else its name. */
  title: string;
  /** The file's name without its folders. */
  name: string;
  path: string;
  kind: DocumentKind;
  bytes: number;
  /** Of the whole document; null until it was opened once. */
  pages: number | null;
  /** "changed": the file at this path has other bytes now. "missing": there is none. What was read
   * and asked is kept in both cases. */
  file: "present" | "changed" | "missing";
  /** ISO 8601, UTC, as are all times. */
  addedAt: string;
  lastUse: string;
  reads: ReadEntry[];
  chats: number;
}

/** KV of a document on disk: what one model has read of it. */
export interface ReadEntry {
  /** Name of the read in the store. */
  key: string;
  documentId: string;
  documentTitle: string;
  model: { name: string; fingerprint: string };
  /** As `--pages` takes them. */
  pages: string;
  /** Tokens of the read: the document and the few around it. */
  tokens: number;
  documentTokens: number;
  /** Of these, tokens whose KV lies on disk. */
  storedTokens: number;
  /** False for a read that was stopped or whose files are gone. */
  complete: boolean;
  bytes: number;
  madeAt: string;
  lastUse: string;
  /** Never removed to make room. */
  pinned: boolean;
}

/** All reads, and the room they may take. */
export interface ReadStore {
  reads: ReadEntry[];
  /** Files that several reads share count once. */
  bytes: number;
  /** What they may take; the least recently used go first. Null: no limit. */
  limitBytes: number | null;
  /** Free on that disk. */
  freeBytes: number;
  folder: string;
}

/** A document with its pages. */
export interface DocumentDetail {
  id: string;
  title: string;
  kind: DocumentKind;
  /** Of the chosen pages. */
  pages: Page[];
  /** UTF-16 units of the chosen pages' text. */
  characters: number;
  /** Pages of the whole document. */
  documentPages: number;
  /** Whether pages have a picture and boxes; else they are shown as text. */
  hasLayout: boolean;
  outline: OutlineEntry[];
  report: ExtractionReport;
}

/** Characters [start, end) of the text of the chosen pages, and where they stand. */
export interface TextLine extends Omit<Box, "page"> {
  start: number;
  end: number;
}

/** The text layer of a page. */
export interface PageText {
  number: number;
  /** Offset of the page's first character in the text of the chosen pages. */
  start: number;
  text: string;
  /** Runs of characters on a line, in the order of the text; empty without a layout. */
  lines: TextLine[];
}

/** A picture of a page. */
export interface PageImage {
  number: number;
  /** PNG. */
  image: Uint8Array;
  /** In pixels. */
  width: number;
  height: number;
}

export interface FoundPassage {
  page: number;
  /** Characters [start, end) of the text of the chosen pages. */
  start: number;
  end: number;
  /** What stands around it, on one line. */
  before: string;
  match: string;
  after: string;
  boxes: Box[];
}

export interface FindResult {
  passages: FoundPassage[];
  /** All there are; the list above ends at its limit. */
  total: number;
}

/** What reading a document would take, before it is read. Token counts are the model's own
 * tokenizer's, memory is the engine's; times come from rates measured on this machine. */
export interface Preflight {
  document: { id: string; title: string };
  pages: string;
  documentPages: number;
  report: ExtractionReport;
  model: { name: string; fingerprint: string; device: string };
  documentTokens: number;
  /** Instructions and marks around the document, and an empty question. */
  aroundTokens: number;
  answerTokens: number;
  contextTokens: number;
  fits: boolean;
  /** Why it does not fit, and what can be done; null when it does. */
  problem: ErrorValue | null;
  /** The first pages that fit, when not all do. */
  fittingPages: string | null;
  /** Tokens that were read before and need no reading. */
  cachedTokens: number;
  memory: {
    weightsBytes: number;
    workspaceBytes: number;
    /** KV of document, question and answer. */
    kvBytes: number;
    /** What the engine lets KV grow to. */
    kvPoolBytes: number;
    freeBytes: number;
    /** Of what the read adds on the disk. */
    diskBytes: number;
    freeDiskBytes: number;
  };
  /** Null: nothing was measured yet with this model on this machine. */
  readSeconds: number | null;
  /** Tokens per second of an answer at that depth. */
  answerRates: { mode: "ab-sparse" | "dense"; tokensPerSecond: number | null }[];
  /** How many measurements the times rest on. */
  measurements: number;
}
