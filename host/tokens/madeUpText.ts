/** Made-up text, the same for the same seed: prose for benchmarks, facts for retrieval. */

const nouns =
  "river archive signal window harbour lantern valley engine ledger garden bridge copper".split(
    " ",
  );
const verbs =
  "carries follows records shelters divides repeats answers crosses measures gathers".split(" ");
const others =
  "quietly under beyond while the a this every second narrow bright slow old before after between".split(
    " ",
  );

/** Numbers in [0, 1), the same for the same seed (mulberry32, Tommy Ettinger, public domain). */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** @param words about as many words */
export function madeUpText(words: number, seed: number): string {
  const random = randomNumbers(seed);
  const pick = (list: string[]) => list[Math.floor(random() * list.length)]!;
  const sentences: string[] = [];
  for (let written = 0; written < words; ) {
    const length = 6 + Math.floor(random() * 12);
    const sentence = Array.from({ length }, (_, place) =>
      place % 4 === 1 ? pick(nouns) : place % 4 === 2 ? pick(verbs) : pick(others),
    ).join(" ");
    sentences.push(`${sentence[0]!.toUpperCase()}${sentence.slice(1)}.`);
    written += length;
  }
  return sentences
    .map((sentence, index) => (index % 7 === 6 ? `${sentence}\n\n` : `${sentence} `))
    .join("");
}

export interface Fact {
  sentence: string;
  question: string;
  answer: string;
}

const owners =
  "Aldous Berit Cosima Dagny Edmund Fenna Gustav Hedda Ingmar Jorun Kaspar Lioba Mirko Nadja Oskar Petra".split(
    " ",
  );
const things =
  "boathouse workshop greenhouse observatory cellar bakery library garage printing-house stable chapel mill".split(
    " ",
  );

/** Facts that no document holds: each owner's number is asked for by the owner. */
export function madeUpFacts(count: number, random: () => number): Fact[] {
  return Array.from({ length: count }, (_, index) => {
    const owner = owners[index % owners.length]!;
    const thing = things[Math.floor(random() * things.length)]!;
    const code = String(10_000 + Math.floor(random() * 90_000));
    const round = Math.floor(index / owners.length);
    const name = round === 0 ? owner : `${owner} ${round + 1}`;
    return {
      sentence: `The door code of ${name}'s ${thing} is ${code}.`,
      question: `What is the door code of ${name}'s ${thing}?`,
      answer: `"The door code of ${name}'s ${thing} is ${code}."`,
    };
  });
}

/** Plants sentences at even depths, each between two lines or sentences of the text.
 * @returns the text, and the place of each sentence in it */
export function plant(text: string, sentences: string[]): { text: string; places: number[] } {
  const parts: string[] = [];
  const places: number[] = [];
  let at = 0;
  let length = 0;
  sentences.forEach((sentence, index) => {
    const wanted = Math.floor(((index + 0.5) / sentences.length) * text.length);
    const gap = gapAfter(text, Math.max(at, wanted));
    const before = `${text.slice(at, gap)}${/\s$/.test(text.slice(at, gap)) || gap === 0 ? "" : " "}`;
    places.push(length + before.length);
    parts.push(before, `${sentence} `);
    length += before.length + sentence.length + 1;
    at = gap;
  });
  return { text: parts.join("") + text.slice(at), places };
}

/** The end of the sentence or line at this place. */
function gapAfter(text: string, from: number): number {
  const match = /[.!?]\s|\n/.exec(text.slice(from, from + 2000));
  return match === null ? from : from + match.index + match[0].length;
}
