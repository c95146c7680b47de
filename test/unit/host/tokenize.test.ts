import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { tokenizeSegment } from "../../../host/tokens/tokenize.ts";
import { ByteTokenizer } from "./byteTokenizer.ts";

const lengths = (sizes: number[]) => {
  let next = 0;
  return () => sizes[next++ % sizes.length]!;
};

const anyText = fc.oneof(
  fc.string({ unit: "grapheme", maxLength: 60 }),
  fc.string({ unit: "binary", maxLength: 60 }),
  fc
    .array(fc.constantFrom("é", "😀", "a", " ", "\n", "漢", "\u0301"), { maxLength: 40 })
    .map((letters) => letters.join("")),
);
const tokenSizes = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 9 });

/** Bytes before which each letter begins, and the text's length at the end. */
function lettersAt(text: string): Map<number, number> {
  const places = new Map<number, number>();
  let byte = 0;
  let at = 0;
  for (const letter of text) {
    places.set(byte, at);
    byte += Buffer.byteLength(letter);
    at += letter.length;
  }
  return places.set(byte, at);
}

describe("the place of a token in the document", () => {
  test("is exact, however the bytes of a letter fall apart", async () => {
    await fc.assert(
      fc.asyncProperty(anyText, tokenSizes, async (text, sizes) => {
        fc.pre(!text.includes("\ufffd"));
        const tokenizer = new ByteTokenizer(lengths(sizes));
        const segment = await tokenizeSegment(tokenizer, [{ text, part: "document", start: 100 }]);
        const letters = lettersAt(text);
        // Where a token begins between two letters, so does its place; tokens that share letters
        // share the place of them all.
        let byte = 0;
        let whole = 100;
        segment.tokens.forEach((token, index) => {
          const letter = letters.get(byte);
          if (letter !== undefined) whole = 100 + letter;
          expect(segment.start[index]).toBe(whole);
          byte += tokenizer.bytesOf(token).length;
          const end = letters.get(byte);
          if (end !== undefined) expect(segment.end[index]).toBe(100 + end);
          expect(segment.end[index]).toBeGreaterThan(whole);
        });
        expect(segment.documentTokens).toBe(segment.tokens.length);
      }),
      { numRuns: 600, seed: 8 },
    );
  });

  test("is exact for replacement characters that stand in the text", async () => {
    const text = "a\ufffd\ufffdb \ufffd.";
    for (const size of [1, 3, 4, 100]) {
      const tokenizer = new ByteTokenizer(lengths([size]));
      const { start, end } = await tokenizeSegment(tokenizer, [
        { text, part: "document", start: 0 },
      ]);
      expect(start[0]).toBe(0);
      expect(end.at(-1)).toBe(text.length);
      start.forEach((at, index) => {
        if (index > 0) expect([start[index - 1], end[index - 1]]).toContain(at);
      });
    }
  });

  test("is that of its words in ordinary text", async () => {
    const text = "Zwölf Boxkämpfer jagen Viktor über den großen Sylter Deich.";
    const tokenizer = new ByteTokenizer(lengths([5, 3, 4]));
    const { tokens, start, end } = await tokenizeSegment(tokenizer, [
      { text, part: "document", start: 0 },
    ]);
    let covered = "";
    tokens.forEach((_token, index) => {
      if (index === 0 || start[index] !== start[index - 1]) {
        covered += text.slice(start[index], end[index]);
      }
    });
    expect(covered).toBe(text);
  });

  test("is none outside the document", async () => {
    const tokenizer = new ByteTokenizer(lengths([2]));
    const segment = await tokenizeSegment(
      tokenizer,
      [
        { text: "<|im_start|>ab", part: "frame" },
        { text: "cdef", part: "document", start: 7 },
        { text: "gh", part: "question" },
      ],
      9,
    );
    expect(segment.tokens[0]).toBe(9);
    expect([...segment.start]).toEqual([-1, -1, -1, 7, 9, -1]);
    expect([...segment.end]).toEqual([-1, -1, -1, 9, 11, -1]);
    expect(segment.documentTokens).toBe(2);
  });

  test("stays in order when the text does not come back as it went in", async () => {
    // A tokenizer that drops capitals, as some normalise their input.
    const inner = new ByteTokenizer(lengths([3]));
    const lossy = {
      tokenize: (text: string, special: boolean) => inner.tokenize(text.toLowerCase(), special),
      detokenize: (tokens: Int32Array) => inner.detokenize(tokens),
    };
    const text = "the Quick brown fox jumps over the Lazy dog again";
    const { start, end } = await tokenizeSegment(lossy, [{ text, part: "document", start: 0 }]);
    start.forEach((at, index) => {
      expect(end[index]).toBeGreaterThanOrEqual(at);
      if (index > 0) expect(at).toBeGreaterThanOrEqual(start[index - 1]!);
    });
    expect(end.at(-1)).toBe(text.length);
  });

  test("takes no account of a space that the vocabulary puts before the text", async () => {
    const inner = new ByteTokenizer(lengths([4]));
    const spaced = {
      tokenize: (text: string, special: boolean) => inner.tokenize(` ${text}`, special),
      detokenize: (tokens: Int32Array) => inner.detokenize(tokens),
    };
    const { start, end } = await tokenizeSegment(spaced, [
      { text: "word for word", part: "document", start: 0 },
    ]);
    expect([start[0], end[0], start[1]]).toEqual([0, 3, 3]);
    expect(end.at(-1)).toBe(13);
  });
});

test("only frames may hold special tokens", async () => {
  const tokenizer = new ByteTokenizer(lengths([4]));
  const { tokens } = await tokenizeSegment(tokenizer, [
    { text: "<|im_start|>system\n", part: "frame" },
    { text: "a <|im_end|> b", part: "document", start: 0 },
    { text: "<|im_end|>", part: "question" },
    { text: "<|im_start|>", part: "answer" },
    { text: "<|im_end|>", part: "frame" },
  ]);
  const specials = [...tokens].filter((token) => tokenizer.specials.has(token));
  expect(specials).toHaveLength(2);
});
