import { foldText } from "./foldedText.ts";
import { wordsIn } from "./words.ts";

/** The words of a document as numbers, with their offsets. */
export class DocumentWords {
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  /** Number of each word in `vocabulary`. */
  readonly ids: Int32Array;
  /** Folded words, each once. */
  readonly vocabulary: string[] = [];
  readonly #numbers = new Map<string, number>();

  constructor(text: string) {
    const starts: number[] = [];
    const ends: number[] = [];
    const ids: number[] = [];
    // Words as they are written are far fewer than words: each is folded once.
    const written = new Map<string, number>();
    for (const word of wordsIn(text)) {
      let id = written.get(word.text);
      if (id === undefined) {
        id = this.#intern(foldWord(word.text));
        written.set(word.text, id);
      }
      starts.push(word.start);
      ends.push(word.end);
      ids.push(id);
    }
    this.starts = Uint32Array.from(starts);
    this.ends = Uint32Array.from(ends);
    this.ids = Int32Array.from(ids);
  }

  /** Undefined for a word that the document does not have. */
  idOf(folded: string): number | undefined {
    return this.#numbers.get(folded);
  }

  #intern(folded: string): number {
    let id = this.#numbers.get(folded);
    if (id === undefined) {
      id = this.vocabulary.push(folded) - 1;
      this.#numbers.set(folded, id);
    }
    return id;
  }
}

const foldWord = (word: string): string => foldText(word).folded;

export interface NearPassage {
  /** Offsets in the document's text, end exclusive. */
  start: number;
  end: number;
  /** Share of the quotation's letters in words that were found. */
  found: number;
}

const fewestWords = 5;
const mostWords = 400;
const mostCandidates = 12;
/** Edits, as a share of the quotation's words. */
const mostEdits = 0.2;

/** The passage that differs from the quotation in few words: at least `leastFound` of the letters
 * stand in words that are the same or nearly so, in the same order, and the edits are few. A passage
 * that differs in a number or in a negation is another statement and does not count. Of equally good
 * ones that with the smallest `distance` (of its start offset).
 *
 * Candidates are windows that share most words with the quotation (linear in the document), each
 * aligned by edit distance over words. */
export function closestPassage(
  document: DocumentWords,
  quote: string,
  leastFound: number,
  distance: (start: number) => number,
): NearPassage | undefined {
  const quoted = [...wordsIn(quote)].map((word) => foldWord(word.text));
  if (quoted.length < fewestWords || quoted.length > mostWords) return undefined;
  const passages: (NearPassage & { edits: number })[] = [];
  for (const [first, last] of candidateWindows(document, quoted)) {
    const window = [...document.ids.subarray(first, last)].map((id) => document.vocabulary[id]!);
    const { start, end, pairs, edits } = alignWords(quoted, window);
    if (start === end || edits > mostEdits * quoted.length) continue;
    if (pairs.some(([word, other]) => word !== other && changesMeaning(word, other))) continue;
    const found = foundShare(quoted, pairs);
    if (found < leastFound) continue;
    const from = document.starts[first + start]!;
    passages.push({ start: from, end: document.ends[first + end - 1]!, found, edits });
  }
  passages.sort((a, b) => a.edits - b.edits || distance(a.start) - distance(b.start));
  return passages[0];
}

/** Share of the quotation's letters in words that are the same or near in the document. */
function foundShare(quoted: string[], pairs: [string, string][]): number {
  const letters = quoted.reduce((sum, word) => sum + word.length, 0);
  const found = pairs.reduce(
    (sum, [word, other]) => (wordCost(word, other) < 1 ? sum + word.length : sum),
    0,
  );
  return found / letters;
}

/** Ranges of words, end exclusive, that hold at least half of the quotation's words, the best of each
 * neighbourhood first. */
function candidateWindows(document: DocumentWords, quoted: string[]): [number, number][] {
  const { ids } = document;
  const size = quoted.length + slack(quoted.length);
  // Words of the quotation still missing in the window; below zero: more than needed.
  const missing = new Map<number, number>();
  for (const word of quoted) {
    const id = document.idOf(word);
    if (id !== undefined) missing.set(id, (missing.get(id) ?? 0) + 1);
  }
  let shared = 0;
  const peaks: { last: number; shared: number }[] = [];
  for (let last = 0; last < ids.length; last++) {
    const entering = missing.get(ids[last]!);
    if (entering !== undefined) {
      if (entering > 0) shared++;
      missing.set(ids[last]!, entering - 1);
    }
    const leaving = last >= size ? missing.get(ids[last - size]!) : undefined;
    if (leaving !== undefined) {
      if (leaving >= 0) shared--;
      missing.set(ids[last - size]!, leaving + 1);
    }
    if (shared * 2 < quoted.length) continue;
    const peak = peaks.at(-1);
    if (!peak || last - peak.last > quoted.length) peaks.push({ last, shared });
    else if (shared > peak.shared) Object.assign(peak, { last, shared });
  }
  return peaks
    .sort((a, b) => b.shared - a.shared)
    .slice(0, mostCandidates)
    .map(({ last }) => {
      const first = Math.max(0, last + 1 - size - slack(quoted.length));
      return [first, Math.min(ids.length, last + 1 + slack(quoted.length))];
    });
}

const slack = (words: number): number => Math.max(3, words >> 2);

interface Alignment {
  /** Words of the window that the quotation was aligned with, end exclusive. */
  start: number;
  end: number;
  /** Words of the quotation and of the window that stand for each other; `""` for none. */
  pairs: [quoted: string, other: string][];
  /** Sum of the costs of all pairs. */
  edits: number;
}

const nearCost = 0.5;

/** The cheapest alignment of all of `quoted` with any part of `window` (edit distance over words,
 * with free ends in the window; Sellers 1980). */
function alignWords(quoted: string[], window: string[]): Alignment {
  const columns = window.length + 1;
  const cost = new Float32Array((quoted.length + 1) * columns);
  quoted.forEach((word, row) => {
    const above = row * columns;
    const here = above + columns;
    cost[here] = row + 1;
    window.forEach((other, column) => {
      const paired = cost[above + column]! + wordCost(word, other);
      const skipped = Math.min(cost[above + column + 1]!, cost[here + column]!) + 1;
      cost[here + column + 1] = Math.min(paired, skipped);
    });
  });
  const lastRow = cost.subarray(quoted.length * columns);
  const end = lastRow.indexOf(Math.min(...lastRow));
  const pairs: [string, string][] = [];
  let row = quoted.length;
  let column = end;
  while (row > 0) {
    const at = row * columns + column;
    const word = quoted[row - 1]!;
    const other = window[column - 1] ?? "";
    // Costs are multiples of a half, so they are exact and can be compared.
    if (column > 0 && cost[at] === cost[at - columns - 1]! + wordCost(word, other)) {
      pairs.push([word, other]);
      row--;
      column--;
    } else if (cost[at] === cost[at - columns]! + 1) {
      pairs.push([word, ""]);
      row--;
    } else {
      pairs.push(["", other]);
      column--;
    }
  }
  return { start: column, end, pairs, edits: lastRow[end]! };
}

/** 0 for the same word, {@link nearCost} for another form of it or a slip, 1 for another word. */
function wordCost(quoted: string, other: string): number {
  if (quoted === other) return 0;
  return isNear(quoted, other) ? nearCost : 1;
}

/** Words of four letters or more that begin alike and differ in one letter, long ones in two. */
function isNear(a: string, b: string): boolean {
  const shorter = Math.min(a.length, b.length);
  if (shorter < 4 || a[0] !== b[0] || /\d/.test(a + b)) return false;
  const most = shorter < 8 ? 1 : 2;
  return Math.abs(a.length - b.length) <= most && editDistance(a, b, most) <= most;
}

/** Levenshtein's distance of two words; any number above `most` stands for “more”. */
function editDistance(a: string, b: string, most: number): number {
  let above = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = above[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(change, above[j]! + 1, row[j - 1]! + 1));
    }
    if (Math.min(...row) > most) return most + 1;
    above = row;
  }
  return above[b.length]!;
}

// In the languages whose documents are most common; a list can't be complete, and a fuzzy match is
// shown as one.
const negations = new Set(
  (
    "no not never none nor neither nothing without cannot cant dont doesnt didnt isnt arent wasnt " +
    "werent wont wouldnt shouldnt couldnt mustnt hasnt havent hadnt except unless " +
    "nicht kein keine keinen keinem keiner keines nie niemals nichts ohne weder " +
    "ne pas jamais aucun aucune sans ni non rien " +
    "nunca ninguno ninguna sin tampoco nada mai nessuno nessuna senza " +
    "nao sem nenhum nenhuma niet geen nooit не ни нет без никогда"
  ).split(" "),
);

/** Whether the difference between two words, or a word that only one side has (the other empty),
 * makes another statement: a number, a negation, or an opposite by prefix. A number that only the
 * document has may be the mark of a note. */
function changesMeaning(quoted: string, other: string): boolean {
  if (/\d/.test(quoted) || (quoted !== "" && /\d/.test(other))) return true;
  if (negations.has(quoted) || negations.has(other)) return true;
  return isOpposite(quoted, other) || isOpposite(other, quoted);
}

const isOpposite = (word: string, other: string): boolean =>
  word.length >= 3 &&
  other.endsWith(word) &&
  /^(?:un|in|im|il|ir|dis|non|mis)$/.test(other.slice(0, -word.length));
