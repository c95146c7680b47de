/** What an answer rests on: its quotations, looked up in the document, and the passages that the
 * heads read most while each sentence was written. */
import type { Box, Citation } from "../../contract/answer.ts";
import type { Document } from "../document/document.ts";
import type { TokenizedSegment } from "../tokens/tokenize.ts";
import { type AttentionMap, kvPageTokens } from "./attention.ts";
import { findQuotations, matchQuotation } from "./quotations.ts";
import { type Span, sentenceAt, sentencesOf } from "./sentences.ts";

/** Characters of the document under the KV pages [first, end) of the sequence; null where there are
 * none. */
export type PlaceOfKvPages = (first: number, end: number) => Span | null;

export const placesIn =
  (segment: TokenizedSegment): PlaceOfKvPages =>
  (first, end) => {
    const [from, until] = [first * kvPageTokens, end * kvPageTokens];
    const starts = segment.start.subarray(from, until).filter((at) => at >= 0);
    const ends = segment.end.subarray(from, until).filter((at) => at >= 0);
    return starts.length === 0 ? null : { start: Math.min(...starts), end: Math.max(...ends) };
  };

/** Of a sentence that is the document's without being marked as a quotation. */
const fewestCopiedWords = 5;
const passagesPerSentence = 2;
/** A passage must stand out this many times the document's average KV page. On three manuals the
 * passage that answers had 6 to 38, and where the document has no answer the best had 4. */
const leastScore = 5;
/** A second passage must stand out at least this share of the first. */
const secondShare = 0.4;
/** A passage reaches to the ends of the sentences that it touches, or of the lines where these are
 * further than this. */
const passageReach = 160;

/** @param sentences of the answer, as {@link sentencesOf} gives them. */
export function citationsOf(
  answer: string,
  sentences: Span[],
  document: Document,
  attention: AttentionMap,
  placeOf: PlaceOfKvPages,
): Citation[] {
  const attended = sentences.map((_sentence, index) =>
    attendedPassages(index, sentences, document, attention, placeOf),
  );
  const quoted = quotedPassages(answer, sentences, document, attended);
  return sentences.flatMap((_sentence, index) => [
    ...quoted.filter((citation) => citation.sentence === index),
    ...(attended[index] ?? []),
  ]);
}

/** Words in quotation marks, and whole sentences that are the document's word for word: small models
 * copy without marking it. */
function quotedPassages(
  answer: string,
  sentences: Span[],
  document: Document,
  attended: Citation[][],
): Citation[] {
  const marked = findQuotations(answer).map(({ text, start, end }) => ({ text, start, end }));
  const cite = (text: string, sentence: number): Citation => {
    // Of several places with the same words, the one that was read.
    const nearPage = attended[sentence]?.[0]?.page ?? undefined;
    const options = nearPage === undefined ? {} : { nearPage };
    const match = matchQuotation(text, document, options);
    const common = { quote: text, from: "quotation" as const, sentence };
    if (match === undefined) {
      return { ...common, page: null, verified: false, start: null, end: null, boxes: [] };
    }
    return {
      ...common,
      page: match.page,
      verified: true,
      match: match.kind,
      start: match.start,
      end: match.end,
      boxes: match.ranges.flatMap((range) => boxesOf(document, range)),
    };
  };
  const quotations = marked.map(({ text, start }) => cite(text, sentenceAt(sentences, start)));
  const copied = sentences.flatMap(({ start, end }, sentence) => {
    const text = answer.slice(start, end);
    const isMarked = marked.some((quotation) => quotation.start < end && quotation.end > start);
    if (isMarked || text.split(/\s+/).length < fewestCopiedWords) return [];
    const citation = cite(text, sentence);
    return citation.match === "exact" ? [citation] : [];
  });
  return [...quotations, ...copied];
}

function attendedPassages(
  sentence: number,
  sentences: Span[],
  document: Document,
  attention: AttentionMap,
  placeOf: PlaceOfKvPages,
): Citation[] {
  const from = sentences[sentence]!.start;
  const until = sentences[sentence + 1]?.start ?? Number.POSITIVE_INFINITY;
  const runs = attention.standOut(from, until, passagesPerSentence, leastScore);
  return runs
    .filter(({ score }) => score >= secondShare * runs[0]!.score)
    .flatMap(({ first, end, score }): Citation[] => {
      const place = placeOf(first, end);
      if (place === null) return [];
      const passage = passageAround(document.text, place);
      const quote = document.text.slice(passage.start, passage.end).trim();
      if (quote === "") return [];
      const middle = Math.floor((place.start + place.end) / 2);
      return [
        {
          quote,
          page: document.pageOf(middle).number,
          verified: true,
          from: "attention",
          start: passage.start,
          end: passage.end,
          sentence,
          score,
          boxes: boxesOf(document, passage),
        },
      ];
    });
}

/** The sentences that a place touches; where one is long (a table, a listing), its lines. */
function passageAround(text: string, place: Span): Span {
  const from = Math.max(0, place.start - 2 * passageReach);
  const until = Math.min(text.length, place.end + 2 * passageReach);
  const touched = sentencesOf(text.slice(from, until))
    .map(({ start, end }) => ({ start: start + from, end: end + from }))
    .filter(({ start, end }) => start < place.end && end > place.start);
  const lineStart = text.lastIndexOf("\n", place.start - 1) + 1;
  const lineEnd = text.indexOf("\n", place.end);
  const starts = [touched[0]?.start ?? place.start, lineStart];
  const ends = [touched.at(-1)?.end ?? place.end, lineEnd < 0 ? text.length : lineEnd];
  return wholeWords(text, {
    start:
      starts.find((at) => at <= place.start && place.start - at <= passageReach) ?? place.start,
    end: ends.find((at) => at >= place.end && at - place.end <= passageReach) ?? place.end,
  });
}

/** Moves the ends of a span out of the words that they cut. */
function wholeWords(text: string, { start, end }: Span): Span {
  const isWord = (at: number) => /[\p{L}\p{M}\p{N}]/u.test(text[at] ?? "");
  let first = start;
  while (first > 0 && start - first < 30 && isWord(first) && isWord(first - 1)) first--;
  let last = end;
  while (last < text.length && last - end < 30 && isWord(last - 1) && isWord(last)) last++;
  return { start: first, end: last };
}

function boxesOf(document: Document, { start, end }: Span): Box[] {
  return document.boxesOf(start, end);
}
