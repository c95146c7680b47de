/** Letters of scripts that are written without spaces: each counts as a word. */
const unspaced =
  "\\p{sc=Han}\\p{sc=Hiragana}\\p{sc=Katakana}\\p{sc=Thai}\\p{sc=Lao}\\p{sc=Khmer}\\p{sc=Myanmar}";
const word = `(?:(?![${unspaced}])[\\p{L}\\p{M}\\p{N}])+`;
const unspacedLetter = new RegExp(`[${unspaced}]`, "u");
// A word goes on over an apostrophe, and over a hyphen at a line's end; a number has its sign.
const sign = "(?:(?<![\\p{L}\\p{M}\\p{N}])[-−–](?=\\d))?";
const wordPattern = new RegExp(
  `[${unspaced}]|${sign}${word}(?:(?:['’]|[-\\u00ad‐]\\n)${word})*`,
  "gu",
);

export const letter = /[\p{L}\p{M}\p{N}]/u;

/** Whether two neighbouring characters belong to one word. */
export const joinsWord = (before: string, after: string): boolean =>
  letter.test(before) &&
  letter.test(after) &&
  !unspacedLetter.test(before) &&
  !unspacedLetter.test(after);

/** The words of a text with their offsets. */
export function* wordsIn(text: string): Generator<{ text: string; start: number; end: number }> {
  for (const { 0: found, index } of text.matchAll(wordPattern)) {
    yield { text: found, start: index, end: index + found.length };
  }
}
