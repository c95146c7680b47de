import type { Document } from "../document/document.ts";
import { clusterEnd, type FoldedText, foldText } from "./foldedText.ts";
import { closestPassage, DocumentWords } from "./fuzzyQuotation.ts";
import { joinsWord, letter, wordsIn } from "./words.ts";

export { findQuotations, type Quotation } from "./findQuotations.ts";

/** Offsets into the document's text, end exclusive. */
export interface TextRange {
  start: number;
  end: number;
}

/** Where a quotation stands in the document. */
export interface QuotationMatch extends TextRange {
  /** `exact`: the whole, letter by letter, apart from what {@link foldText} takes away; `pieces`: in
   * two or more exact parts, parted by an ellipsis in the quotation or by a page's foot and head in
   * the document; `fuzzy`: nearly the whole, with a few words different. */
  kind: "exact" | "pieces" | "fuzzy";
  /** Physical number of the page where it begins. */
  page: number;
  /** The parts found, to be highlighted; one unless `kind` is `pieces`. */
  ranges: TextRange[];
  /** Share of the quotation's letters that were found, 0.85…1. */
  found: number;
  /** One or two words: that they stand in the document says little. */
  weak: boolean;
  /** How often the whole occurs; 1 unless `kind` is `exact`. */
  occurrences: number;
}

export interface MatchOptions {
  /** Physical number of the page where the quotation is expected, e.g. the one attended most: of
   * several occurrences the nearest is taken. The first one without it. */
  nearPage?: number;
}

/** Below this share of the quotation nothing is marked. */
export const leastFound = 0.85;

/** Finds a quotation in a document: exactly, in pieces, or nearly. Undefined when it is not there.
 * The first call for a document folds its text (once; linear); after that an exact search is linear
 * in the text, and the others are bounded. */
export function matchQuotation(
  quote: string,
  document: Document,
  options: MatchOptions = {},
): QuotationMatch | undefined {
  const search = searchOf(document);
  const folded = foldQuote(quote, document);
  if (folded.length < fewestUnits) return undefined;
  const weak = countWords(quote) <= 2 || folded.length < weakUnits;
  const spread =
    findExact(search, folded, options) ??
    findAcrossPages(search, folded, options) ??
    findPieces(search, quote, ellipsis, 1, options) ??
    findPieces(search, quote, ellipsisOrBrackets, 1, options) ??
    findNearly(search, quote, options) ??
    findPieces(search, quote, ellipsis, leastFound, options);
  if (!spread) return undefined;
  const { start } = spread.ranges[0]!;
  return {
    ...spread,
    start,
    end: spread.ranges.at(-1)!.end,
    page: document.pageOf(start).number,
    weak,
  };
}

/** What a search gives; the rest follows from it. */
type Spread = Pick<QuotationMatch, "kind" | "ranges" | "found" | "occurrences">;

interface Search extends FoldedText {
  document: Document;
  words?: DocumentWords;
}

const searches = new WeakMap<Document, Search>();

function searchOf(document: Document): Search {
  let search = searches.get(document);
  if (!search) {
    search = { document, ...foldText(document.text, foldOptions(document)) };
    searches.set(document, search);
  }
  return search;
}

const foldOptions = (document: Document) => ({ markdown: document.kind === "markdown" });

const fewestUnits = 3;
const weakUnits = 8;
// A phrase that occurs more often than this is no evidence for one place; the tries bound the search
// in texts that repeat a few letters.
const mostOccurrences = 10_000;
const mostTries = 200_000;

/** Punctuation at the ends of a quotation is often the answer's own. */
function foldQuote(quote: string, document: Document): string {
  const plain = quote.replace(/\[(\p{L})\]/gu, "$1");
  const { folded } = foldText(plain, foldOptions(document));
  return folded.replace(/^[.,;:!?]+|[.,;:!?]+$/g, "");
}

const countWords = (text: string): number => [...wordsIn(text)].length;

function findExact(search: Search, quote: string, options: MatchOptions): Spread | undefined {
  const starts = occurrencesOf(search, quote);
  if (starts.length === 0) return undefined;
  const start = nearest(search, starts, options);
  const ranges = [originalRange(search, start, start + quote.length)];
  return { kind: "exact", ranges, found: 1, occurrences: starts.length };
}

/** Starts in the folded text where `quote` stands as whole words. */
function occurrencesOf(search: Search, quote: string, most = mostOccurrences): number[] {
  const starts: number[] = [];
  let at = search.folded.indexOf(quote);
  for (let tries = 0; at !== -1 && starts.length < most && tries < mostTries; tries++) {
    if (beginsWord(search, at) && endsWord(search, at + quote.length)) starts.push(at);
    at = search.folded.indexOf(quote, at + 1);
  }
  return starts;
}

function nearest(search: Search, starts: number[], { nearPage }: MatchOptions): number {
  if (nearPage === undefined) return starts[0]!;
  const distance = (start: number): number =>
    Math.abs(search.document.pageOf(search.offsets[start]!).number - nearPage);
  return starts.reduce((best, start) => (distance(start) < distance(best) ? start : best));
}

function originalRange(search: Search, start: number, end: number): TextRange {
  return {
    start: search.offsets[start]!,
    end: clusterEnd(search.document.text, search.offsets[end - 1]!),
  };
}

/** Not in the middle of a word, nor behind the minus sign of a number. */
function beginsWord(search: Search, at: number): boolean {
  const offset = search.offsets[at]!;
  const { text } = search.document;
  if (joinsWord(characterBefore(text, offset), characterAt(text, offset))) return false;
  if (search.folded[at - 1] !== "-" || !/\d/.test(search.folded[at]!)) return true;
  return letter.test(characterBefore(text, search.offsets[at - 1]!));
}

function endsWord(search: Search, at: number): boolean {
  const { text } = search.document;
  const last = search.offsets[at - 1]!;
  // Inside a ligature, a word goes on.
  if (at < search.offsets.length && search.offsets[at] === last) return false;
  const end = clusterEnd(text, last);
  return !joinsWord(characterAt(text, last), characterAt(text, end));
}

const characterAt = (text: string, offset: number): string =>
  offset < text.length ? String.fromCodePoint(text.codePointAt(offset)!) : "";
const characterBefore = (text: string, offset: number): string =>
  offset <= 0
    ? ""
    : (/[\ud800-\udbff]?.$/su.exec(text.slice(Math.max(0, offset - 2), offset))?.[0] ?? "");

// A page's foot may hold notes; its head is a line or two.
const longestFoot = 1500;
const longestHead = 400;
const shortestHalf = 20;
const mostAnchors = 200;

/** A quotation over a page break: between its parts stand the foot of a page and the head of the
 * next. One half of it lies on one page; from there the other is looked for. */
function findAcrossPages(search: Search, quote: string, options: MatchOptions): Spread | undefined {
  if (search.document.kind !== "pdf" || quote.length < 2 * shortestHalf) return undefined;
  const half = quote.length >> 1;
  const spreads = [
    ...anchors(search, quote.slice(0, half)).map((at) => overBreakAfter(search, quote, at, half)),
    ...anchors(search, quote.slice(half)).map((at) => overBreakBefore(search, quote, at, half)),
  ].filter((spread) => spread !== undefined);
  const best = spreads.length > 0 ? nearestSpread(search, spreads, options) : undefined;
  if (!best) return undefined;
  const ranges = best.map(([start, end]) => originalRange(search, start, end));
  return { kind: "pieces", ranges, found: 1, occurrences: 1 };
}

/** Ranges in the folded text. */
type Parts = [start: number, end: number][];

function anchors(search: Search, part: string): number[] {
  const starts: number[] = [];
  let at = search.folded.indexOf(part);
  while (at !== -1 && starts.length < mostAnchors) {
    starts.push(at);
    at = search.folded.indexOf(part, at + 1);
  }
  return starts;
}

// The foot or head may begin with the letters that the quotation goes on with.
const overlap = 12;
// Fewer letters are found by chance.
const shortestRest = 4;

function overBreakAfter(
  search: Search,
  quote: string,
  at: number,
  half: number,
): Parts | undefined {
  if (!beginsWord(search, at)) return undefined;
  let same = half;
  while (same < quote.length && search.folded[at + same] === quote[same]) same++;
  const pageBreak = pageBreakAfter(search, at + half);
  if (pageBreak === undefined) return undefined;
  const foot = pageBreak - (at + same);
  if (foot > longestFoot || foot < -overlap) return undefined;
  for (let cut = same; cut >= Math.max(half, same - overlap); cut--) {
    const rest = quote.slice(cut);
    const from = Math.max(pageBreak, at + cut);
    const start = search.folded.slice(from, pageBreak + longestHead + rest.length).indexOf(rest);
    if (start === -1 || rest.length < shortestRest) continue;
    const end = from + start + rest.length;
    if (!beginsWord(search, from + start) || !endsWord(search, end)) continue;
    return [
      [at, at + cut],
      [from + start, end],
    ];
  }
  return undefined;
}

function overBreakBefore(
  search: Search,
  quote: string,
  at: number,
  half: number,
): Parts | undefined {
  const end = at + quote.length - half;
  if (!endsWord(search, end)) return undefined;
  let same = 0;
  while (same < half && search.folded[at - same - 1] === quote[half - same - 1]) same++;
  const pageBreak = pageBreakBefore(search, at);
  if (pageBreak === undefined) return undefined;
  const head = at - same - pageBreak;
  if (head > longestHead || head < -overlap) return undefined;
  for (let cut = half - same; cut <= Math.min(half, half - same + overlap); cut++) {
    const rest = quote.slice(0, cut);
    const from = Math.max(0, pageBreak - longestFoot - rest.length);
    const until = Math.min(pageBreak, at - half + cut);
    const start = search.folded.slice(from, until).lastIndexOf(rest);
    if (start === -1 || rest.length < shortestRest) continue;
    const restEnd = from + start + cut;
    if (!beginsWord(search, from + start) || !endsWord(search, restEnd)) continue;
    return [
      [from + start, restEnd],
      [at - half + cut, end],
    ];
  }
  return undefined;
}

/** The first position in the folded text at or after `at` where a page begins. */
function pageBreakAfter(search: Search, at: number): number | undefined {
  const page = search.document.pageOf(search.offsets[at]!);
  return page.end < search.document.text.length ? foldedPosition(search, page.end) : undefined;
}

/** Where the page of `at` begins. */
function pageBreakBefore(search: Search, at: number): number | undefined {
  const page = search.document.pageOf(search.offsets[at]!);
  return page.start > 0 ? foldedPosition(search, page.start) : undefined;
}

/** The first position in the folded text that comes from `offset` or later. */
function foldedPosition(search: Search, offset: number): number {
  let low = 0;
  let high = search.offsets.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (search.offsets[middle]! < offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

function nearestSpread(search: Search, spreads: Parts[], options: MatchOptions): Parts {
  const start = nearest(
    search,
    spreads.map((parts) => parts[0]![0]),
    options,
  );
  return spreads.find((parts) => parts[0]![0] === start)!;
}

// “…”, “...”, “. . .”, each also in brackets.
const ellipsis = /\s*(?:[[(]\s*(?:…|\.(?:\s?\.){2,})\s*[\])]|…|\.(?:\s?\.){2,})\s*/;
// Words in brackets may be the document's or the quoting one's.
const ellipsisOrBrackets = new RegExp(`${ellipsis.source}|\\s*\\[[^\\]\\n]{1,60}\\]\\s*`);
const shortestPiece = 6;
// Between two pieces: about a page and a half.
const longestGap = 4000;

function findPieces(
  search: Search,
  quote: string,
  gap: RegExp,
  leastShare: number,
  options: MatchOptions,
): Spread | undefined {
  const plain = quote.replace(/\[(\p{L})\]/gu, "$1");
  const pieces = plain
    .split(gap)
    .map((piece) => foldQuote(piece, search.document))
    .filter((piece) => piece.length >= shortestPiece);
  if (pieces.length < 2) return undefined;
  const total = pieces.reduce((sum, piece) => sum + piece.length, 0);
  const longest = pieces.reduce(
    (best, piece, i) => (piece.length > pieces[best]!.length ? i : best),
    0,
  );
  const starts = occurrencesOf(search, pieces[longest]!, mostAnchors);
  const length = (parts: Parts): number =>
    parts.reduce((sum, [start, end]) => sum + end - start, 0);
  const spreads = starts.map((at) => piecesAround(search, pieces, longest, at));
  const most = Math.max(0, ...spreads.map(length));
  if (most === 0 || most < leastShare * total) return undefined;
  const best = nearestSpread(
    search,
    spreads.filter((parts) => length(parts) === most),
    options,
  );
  const ranges = best.map(([start, end]) => originalRange(search, start, end));
  return { kind: "pieces", ranges, found: most / total, occurrences: 1 };
}

/** The pieces before and after the one at `at`, in order, each as near as it occurs. */
function piecesAround(search: Search, pieces: string[], index: number, at: number): Parts {
  const parts: Parts = [[at, at + pieces[index]!.length]];
  for (const piece of pieces.slice(0, index).reverse()) {
    const until = parts[0]![0];
    const starts = startsWithin(search, piece, until - longestGap - piece.length, until);
    const start = starts.at(-1);
    if (start !== undefined) parts.unshift([start, start + piece.length]);
  }
  for (const piece of pieces.slice(index + 1)) {
    const from = parts.at(-1)![1];
    const [start] = startsWithin(search, piece, from, from + longestGap + piece.length);
    if (start !== undefined) parts.push([start, start + piece.length]);
  }
  return parts;
}

/** Where a piece stands as whole words within a part of the folded text. */
function startsWithin(search: Search, piece: string, from: number, until: number): number[] {
  const first = Math.max(0, from);
  const part = search.folded.slice(first, until);
  const starts: number[] = [];
  for (let at = part.indexOf(piece); at !== -1; at = part.indexOf(piece, at + 1)) {
    const start = first + at;
    if (beginsWord(search, start) && endsWord(search, start + piece.length)) starts.push(start);
  }
  return starts;
}

function findNearly(search: Search, quote: string, options: MatchOptions): Spread | undefined {
  search.words ??= new DocumentWords(search.document.text);
  const passage = closestPassage(search.words, quote, leastFound, (start) =>
    options.nearPage === undefined
      ? 0
      : Math.abs(search.document.pageOf(start).number - options.nearPage),
  );
  if (!passage) return undefined;
  const { start, end, found } = passage;
  return { kind: "fuzzy", ranges: [{ start, end }], found, occurrences: 1 };
}
