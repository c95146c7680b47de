/** Text cut where marks and dresses begin and end. */
import type { Dress, DressedRange } from "./markdownDress.ts";

export type MarkKind = "found" | "foundNow" | "cited";

export interface MarkedRange {
  start: number;
  end: number;
  kind: MarkKind;
}

export interface Piece {
  /** Place in the document's text. */
  start: number;
  text: string;
  kind: MarkKind | null;
  /** The outer one first. */
  dresses: Dress[];
}

/** Pieces that make up the text together; where marks overlap, the last one given counts.
 * @param offset place of the text's first letter, in the numbers of the ranges */
export function markedPieces(
  text: string,
  offset: number,
  marks: readonly MarkedRange[],
  dressed: readonly DressedRange[] = [],
): Piece[] {
  const cuts = new Set([0, text.length]);
  for (const { start, end } of [...marks.map((mark) => shifted(mark, -offset)), ...dressed])
    for (const cut of [start, end]) if (cut > 0 && cut < text.length) cuts.add(cut);
  const places = [...cuts].sort((a, b) => a - b);
  return places.slice(0, -1).map((start, index) => ({
    start: offset + start,
    text: text.slice(start, places[index + 1]),
    kind: marks.findLast((mark) => covers(shifted(mark, -offset), start))?.kind ?? null,
    dresses: dressed.filter((range) => covers(range, start)).map(({ dress }) => dress),
  }));
}

interface Range {
  start: number;
  end: number;
}

const covers = ({ start, end }: Range, place: number): boolean => start <= place && end > place;

const shifted = ({ start, end }: Range, by: number): Range => ({
  start: start + by,
  end: end + by,
});
