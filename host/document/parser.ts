import { ScholiaError } from "../../contract/errors.ts";
import type { DocumentContent, DocumentKind } from "./document.ts";

/** Bounds on what a document may ask of the machine. Documents are untrusted input. */
export interface ReadLimits {
  fileBytes: number;
  pages: number;
  /** UTF-16 units of text. */
  characters: number;
  /** From the start of the worker to its answer. */
  seconds: number;
  /** For each of the two heaps of the worker: JavaScript's and WebAssembly's. */
  memoryBytes: number;
}

export const defaultLimits: ReadLimits = {
  fileBytes: 512 * 2 ** 20,
  pages: 20_000,
  characters: 16_000_000,
  seconds: 120,
  memoryBytes: 2 ** 30,
};

export interface Source {
  bytes: Uint8Array;
  /** The file's name without its folders. */
  name: string;
  /** SHA-256 of `bytes`, hexadecimal. */
  id: string;
}

export interface ParseContext {
  limits: ReadLimits;
  password?: string;
  /** To be called as pages are read; a time limit is enforced from outside. */
  onPage: (page: number, pages: number) => void;
}

/** One kind of document. A new kind is a parser in `parsers.ts` and its signs in `kind.ts`. */
export interface Parser {
  kind: DocumentKind;
  /** The document's content; every page has its status. Throws `ScholiaError` with a `document_…`
   * code. It runs in a worker that may be terminated at any moment, so it keeps nothing open. */
  parse(source: Source, context: ParseContext): Promise<DocumentContent>;
}

/** Throws `document_too_large` when a document has more pages or characters than the limit. */
export function checkSize(
  what: "pages" | "characters",
  count: number,
  context: ParseContext,
  name: string,
): void {
  const limit = context.limits[what];
  if (count <= limit) return;
  const message = `${name} has ${count.toLocaleString("en")} ${what} or more; Scholia reads up to ${limit.toLocaleString("en")}. Split the file and open a part of it.`;
  throw new ScholiaError("document_too_large", message);
}
