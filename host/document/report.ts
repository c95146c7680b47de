import type { ExtractionReport, Page, PageStatus } from "./document.ts";
import { formatRanges } from "./ranges.ts";

/** What a parser saw on a page beside its text. */
export interface PageEvidence {
  /** Share of the page's area that pictures cover, 0…1. */
  pictureShare?: number;
  /** Characters for which the font gives no meaning. */
  unmapped?: number;
}

// A scan often carries a stamp or a page number as real text; a paragraph is more than this.
const hardlyAnyText = 100;
const coveredByPicture = 0.5;

/** Status of a page that could be opened, from its text and what else was seen on it. */
export function pageStatus(text: string, evidence: PageEvidence = {}): PageStatus {
  const counts = countCharacters(text);
  if (counts.visible < hardlyAnyText && (evidence.pictureShare ?? 0) >= coveredByPicture) {
    return "scanned";
  }
  if (counts.visible === 0) return "empty";
  return isGarbled(counts, evidence.unmapped ?? 0) ? "garbled" : "text";
}

interface CharacterCounts {
  /** Everything but white space. */
  visible: number;
  /** U+FFFD, private use, control characters, unassigned: nothing that a person wrote. */
  strange: number;
  /** Letters a–z and their accented forms, and the vowels (with y) among them. */
  latin: number;
  vowels: number;
}

function countCharacters(text: string): CharacterCounts {
  const counts = { visible: 0, strange: 0, latin: 0, vowels: 0 };
  for (const character of text) {
    const code = character.codePointAt(0)!;
    if (code === 32 || code === 10 || code === 9 || code === 12 || code === 0xa0) continue;
    counts.visible++;
    if (code < 0x80) countAscii(code, counts);
    else if (isStrange(character)) counts.strange++;
    else if (code < 0x250) countAscii(character.normalize("NFD").charCodeAt(0), counts);
  }
  return counts;
}

function countAscii(code: number, counts: CharacterCounts): void {
  if (code < 32 || code === 127) {
    counts.strange++;
    return;
  }
  const letter = code | 32;
  if (letter < 97 || letter > 122) return;
  counts.latin++;
  // a, e, i, o, u, y as bits of their place in the alphabet.
  if ((0x1104111 >> (letter - 97)) & 1) counts.vowels++;
}

const isStrange = (character: string): boolean =>
  character === "\ufffd" || /[\p{Co}\p{Cn}\p{Cc}]/u.test(character);

const strangeShare = 0.2;
const enoughCharacters = 20;
const enoughLetters = 300;
// Languages in Latin letters write 35–50 % vowels (Czech and Polish about 38 %); tables of code or
// names go down to about 25 %. Text whose letters are shifted or shuffled falls below.
const fewestVowels = 0.18;
// With a font that gives no meanings at all the suspicion is there already.
const fewestVowelsUnmapped = 0.28;

function isGarbled(counts: CharacterCounts, unmapped: number): boolean {
  if (counts.visible < enoughCharacters) return false;
  if (counts.strange >= strangeShare * counts.visible) return true;
  const mostlyUnmapped = unmapped > counts.visible / 2;
  if (mostlyUnmapped && counts.strange > 0.02 * counts.visible) return true;
  const vowelShare = counts.latin > 0 ? counts.vowels / counts.latin : 1;
  if (mostlyUnmapped) return vowelShare < fewestVowelsUnmapped;
  return counts.latin >= enoughLetters && vowelShare < fewestVowels;
}

/** Counts of pages by status, and the sentence that says it. */
export function summarise(pages: Page[]): Pick<ExtractionReport, "counts" | "summary"> {
  const counts: Record<PageStatus, number> = {
    text: 0,
    empty: 0,
    scanned: 0,
    garbled: 0,
    broken: 0,
  };
  for (const page of pages) counts[page.status]++;
  return { counts, summary: summarySentence(pages, counts) };
}

const statusWords: [PageStatus, string, string][] = [
  ["empty", "is empty", "are empty"],
  ["scanned", "is probably scanned", "are probably scanned"],
  ["garbled", "has garbled text", "have garbled text"],
  ["broken", "could not be opened", "could not be opened"],
];

function summarySentence(pages: Page[], counts: Record<PageStatus, number>): string {
  const total = pages.length;
  if (counts.text === total) {
    return total === 1 ? "The one page has text." : `All ${total} pages have text.`;
  }
  const parts = [
    counts.text === 0
      ? total === 1
        ? "The one page has no readable text"
        : `None of the ${total} pages has readable text`
      : `${counts.text} of ${total} pages ${counts.text === 1 ? "has" : "have"} text`,
  ];
  for (const [status, one, many] of statusWords) {
    const numbers = pages.filter((page) => page.status === status).map((page) => page.number);
    if (numbers.length === 1) parts.push(`page ${numbers[0]} ${one}`);
    else if (numbers.length > 1) parts.push(`pages ${formatRanges(numbers, 12)} ${many}`);
  }
  return `${parts.join("; ")}.`;
}
