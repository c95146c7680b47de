import { readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { foldText } from "../../../host/answer/foldedText.ts";
import { matchQuotation } from "../../../host/answer/quotations.ts";
import { Document } from "../../../host/document/document.ts";
import { paginate } from "../../../host/document/paginate.ts";
import { summarise } from "../../../host/document/report.ts";

const source = readFileSync(
  new URL("../../fixtures/documents/harbour.md", import.meta.url),
  "utf8",
);

function makeDocument(text: string): Document {
  const pages = paginate(text, []);
  const report = { ...summarise(pages), notes: [] };
  return new Document({ id: "0", name: "test", kind: "text", text, pages, outline: [], report });
}

/** The fixture among a few hundred thousand other words, so that a match has to be found, not just
 * confirmed. */
const syllables = ["ba", "den", "ki", "lor", "mi", "nau", "pel", "ro", "sti", "tu", "va", "wen"];
function filler(words: number, seed: number): string {
  let state = seed;
  const next = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  return Array.from({ length: words }, () =>
    Array.from({ length: 1 + next(4) }, () => syllables[next(syllables.length)]).join(""),
  ).join(" ");
}
const before = `${filler(40_000, 1)}\n\n`;
const document = makeDocument(`${before}${source}\n${filler(40_000, 2)}`);

// A number without its sign would be another number.
const wordStarts = [...source.matchAll(/(?<![−–\-\p{L}\p{N}])[\p{L}\p{N}]+/gu)].map(
  (match) => match.index,
);
/** A run of whole words of the fixture, and where it stands in the document. */
const someQuotation = fc
  .tuple(fc.nat(wordStarts.length - 1), fc.integer({ min: 4, max: 60 }))
  .map(([first, count]) => {
    const start = wordStarts[first]!;
    const last = wordStarts[Math.min(wordStarts.length - 1, first + count - 1)]!;
    const end = last + /^[\p{L}\p{N}]+/u.exec(source.slice(last))![0].length;
    return {
      text: source.slice(start, end),
      start: before.length + start,
      end: before.length + end,
    };
  })
  .filter(({ text }) => foldText(text).folded.length >= 12);

type Mutation = (text: string, chance: () => boolean) => string;
const letters = /(\p{L})(\p{L})/gu;
/** What copying, typesetting and models do to the letters of a quotation. */
const mutations: Record<string, Mutation> = {
  "white space": (text, chance) => text.replace(/\s+/g, (gap) => (chance() ? " \n\t" : gap)),
  "lost line ends": (text) => text.replace(/\s+/g, " "),
  case: (text, chance) =>
    text.replace(/\p{L}+/gu, (word) => (chance() ? word.toUpperCase() : word)),
  "hyphens at line ends": (text, chance) =>
    text.replace(letters, (pair, a, b) => (chance() ? `${a}-\n${b}` : pair)),
  "soft hyphens": (text, chance) =>
    text.replace(letters, (pair, a, b) => (chance() ? `${a}\u00ad${b}` : pair)),
  "quotation marks": (text, chance) =>
    text
      .replace(/[“”'’"]/g, (mark) => (chance() ? '"' : mark))
      .replace(/ (\p{L}+) /gu, (word, inner) => (chance() ? ` “${inner}” ` : word)),
  ligatures: (text) => text.replaceAll("fi", "ﬁ").replaceAll("fl", "ﬂ").replaceAll("ff", "ﬀ"),
  dashes: (text) => text.replace(/[-–—−]/g, "–"),
  decomposed: (text) => text.normalize("NFKD"),
  emphasis: (text, chance) =>
    text.replace(/ (\p{L}+) /gu, (word, inner) => (chance() ? ` **${inner}** ` : word)),
  "end of its own": (text) => `${text}.`,
};

test.each(Object.entries(mutations))("%s: every quotation is found at its place", (_, mutate) => {
  const coins = fc.infiniteStream(fc.integer({ min: 0, max: 4 }));
  fc.assert(
    fc.property(someQuotation, coins, ({ text, start, end }, coin) => {
      const quote = mutate(text, () => coin.next().value === 0);
      const match = matchQuotation(quote, document, { nearPage: document.pageOf(start).number });
      expect(match?.kind).toBe("exact");
      if (match!.occurrences > 1) {
        expect(foldText(document.text.slice(match!.start, match!.end)).folded).toBe(
          foldText(text).folded,
        );
      } else {
        expect([match!.start, match!.end]).toEqual([start, end]);
      }
    }),
    { numRuns: 150 },
  );
});

test("a long quotation with one word changed is found nearly, at its place", () => {
  const long = someQuotation.filter(({ text }) => text.match(/\p{L}+/gu)!.length >= 18);
  fc.assert(
    fc.property(long, fc.nat(), ({ text, start, end }, at) => {
      const words = text.split(/(\s+)/);
      // An inner word of letters that is no negation.
      const inner = words.flatMap((word, i) =>
        i > 2 &&
        i < words.length - 3 &&
        /^\p{Ll}{2,7}$/u.test(word) &&
        !/^(?:no|not|nor|never|neither|nothing|without)$/.test(word)
          ? [i]
          : [],
      );
      if (inner.length === 0) return;
      words[inner[at % inner.length]!] = "zzyxq";
      const match = matchQuotation(words.join(""), document);
      expect(match?.kind).toBe("fuzzy");
      expect(match!.found).toBeLessThan(1);
      // The ends may be off by a word that the document has twice, not more.
      expect(Math.abs(match!.start - start)).toBeLessThan(30);
      expect(Math.abs(match!.end - end)).toBeLessThan(30);
    }),
    { numRuns: 100 },
  );
});

test("an inner part left out with an ellipsis gives the parts around it", () => {
  fc.assert(
    fc.property(someQuotation, fc.nat(), ({ text, start, end }, at) => {
      const gaps = [...text.matchAll(/\s+/g)].map((match) => match.index);
      if (gaps.length < 12) return;
      const from = gaps[4 + (at % (gaps.length - 10))]!;
      const to = gaps.find((gap) => gap > from + 12)!;
      if (to === undefined) return;
      const parts = [text.slice(0, from), text.slice(to)];
      if (parts.some((part) => foldText(part).folded.length < 12)) return;
      const match = matchQuotation(parts.join(" … "), document, {
        nearPage: document.pageOf(start).number,
      });
      expect(match?.kind).toBe("pieces");
      expect([match!.start, match!.end]).toEqual([start, end]);
    }),
    { numRuns: 100 },
  );
});

test("words that are not in the document are not found", () => {
  const word = fc.stringMatching(/^[a-z]{2,9}$/);
  fc.assert(
    fc.property(fc.array(word, { minLength: 3, maxLength: 40 }), (words) => {
      const quote = words.join(" ");
      if (foldText(document.text).folded.includes(foldText(quote).folded)) return;
      expect(matchQuotation(quote, document)).toBeUndefined();
    }),
    { numRuns: 60 },
  );
});

test("the document's own words in another order are not found", () => {
  const long = someQuotation.filter(({ text }) => text.split(/\s+/).length >= 10);
  fc.assert(
    fc.property(long, ({ text }) => {
      const words = text.match(/[\p{L}\p{N}]+/gu)!;
      const reversed = words.reverse().join(" ");
      expect(matchQuotation(reversed, document)).toBeUndefined();
    }),
    { numRuns: 60 },
  );
});

test("folding any text keeps rising offsets, and leaves no marks", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 60 }), (text) => {
      const { folded, offsets } = foldText(text);
      expect(offsets).toHaveLength(folded.length);
      for (let i = 1; i < offsets.length; i++) {
        expect(offsets[i]!).toBeGreaterThanOrEqual(offsets[i - 1]!);
      }
      for (const offset of offsets) expect(offset).toBeLessThan(text.length);
      expect(folded).not.toMatch(/[“”"'’\u00ad\u200b]/);
    }),
    { numRuns: 500 },
  );
});
