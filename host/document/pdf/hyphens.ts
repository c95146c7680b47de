/** Text as it is collected from pages, with a box for each of its UTF-16 units. */
export interface CollectedText {
  text: string;
  /** `[text.length × 4]`, see `DocumentContent.boxes`. */
  boxes: Uint16Array;
  /** Offsets at which pages begin, and the end of the text; rising. */
  pageStarts: number[];
}

const before = /[\p{L}\p{M}\p{N}]+$/u;
const after = /^[\p{L}\p{M}\p{N}]+/u;
// No word is longer; it bounds the look around a hyphen.
const longestWord = 64;

/** Decides what a hyphen at a line's end stood for. `breaks` are the offsets of hyphens that are
 * followed by a line end and the rest of the word. The document itself is asked: a word that stands
 * elsewhere with the hyphen inside a line keeps it (`well-` + `known`), one that stands elsewhere
 * without it is joined (`facil-` + `ities`), and without a witness the text stays as printed, so
 * that no word is damaged. */
export function resolveHyphens(collected: CollectedText, breaks: number[]): CollectedText {
  if (breaks.length === 0) return collected;
  const words = breaks.map((offset) => splitWord(collected.text, offset));
  const seen = findWords(collected.text, words);
  // Units to leave out, in rising order.
  const dropped: number[] = [];
  breaks.forEach((offset, i) => {
    const word = words[i];
    if (!word) return;
    if (seen.has(word.hyphenated)) dropped.push(offset + 1);
    else if (seen.has(word.joined)) dropped.push(offset, offset + 1);
  });
  return dropUnits(collected, dropped);
}

interface BrokenWord {
  joined: string;
  hyphenated: string;
}

function splitWord(text: string, hyphen: number): BrokenWord | undefined {
  const head = before.exec(text.slice(Math.max(0, hyphen - longestWord), hyphen))?.[0];
  const tail = after.exec(text.slice(hyphen + 2, hyphen + 2 + longestWord))?.[0];
  if (!head || !tail) return undefined;
  const [first, last] = [head.toLowerCase(), tail.toLowerCase()];
  return { joined: first + last, hyphenated: `${first}-${last}` };
}

/** Which of the candidates occur in the text inside a line. */
function findWords(text: string, candidates: (BrokenWord | undefined)[]): Set<string> {
  const wanted = new Set(
    candidates.flatMap((word) => (word ? [word.joined, word.hyphenated] : [])),
  );
  const seen = new Set<string>();
  const see = (word: string): void => {
    if (wanted.has(word)) seen.add(word);
  };
  for (const [found] of text.matchAll(/[\p{L}\p{M}\p{N}]+(?:[-‐‑][\p{L}\p{M}\p{N}]+)*/gu)) {
    const word = found.toLowerCase();
    const parts = word.split(/[-‐‑]/);
    if (parts.length === 1) see(word);
    else for (let i = 1; i < parts.length; i++) see(`${parts[i - 1]}-${parts[i]}`);
  }
  return seen;
}

function dropUnits(collected: CollectedText, dropped: number[]): CollectedText {
  const { text, boxes, pageStarts } = collected;
  const kept: string[] = [];
  const keptBoxes = new Uint16Array((text.length - dropped.length) * 4);
  let from = 0;
  let to = 0;
  for (const offset of [...dropped, text.length]) {
    kept.push(text.slice(from, offset));
    keptBoxes.set(boxes.subarray(from * 4, offset * 4), to * 4);
    to += offset - from;
    from = offset + 1;
  }
  let passed = 0;
  const starts = pageStarts.map((start) => {
    while (passed < dropped.length && dropped[passed]! < start) passed++;
    return start - passed;
  });
  return { text: kept.join(""), boxes: keptBoxes, pageStarts: starts };
}
