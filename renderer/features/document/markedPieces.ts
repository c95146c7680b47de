/** Text cut where marks begin and end. */

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
}

/** Pieces that make up the text together; where marks overlap, the last one given counts.
 * @param offset place of the text's first letter, in the numbers of the ranges */
export function markedPieces(
  text: string,
  offset: number,
  ranges: readonly MarkedRange[],
): Piece[] {
  const end = offset + text.length;
  const cuts = new Set([offset, end]);
  for (const range of ranges)
    for (const cut of [range.start, range.end]) if (cut > offset && cut < end) cuts.add(cut);
  const places = [...cuts].sort((a, b) => a - b);
  return places.slice(0, -1).map((start, index) => ({
    start,
    text: text.slice(start - offset, places[index + 1]! - offset),
    kind: ranges.findLast((range) => range.start <= start && range.end > start)?.kind ?? null,
  }));
}
