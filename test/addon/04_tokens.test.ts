import { describe, expect, test } from "vitest";
import { englishText, useEngine } from "./support.ts";

const engine = useEngine();

describe("tokens", () => {
  test.each([
    ["English", englishText],
    ["other alphabets", "Ἐν ἀρχῇ ἦν ὁ λόγος. Το βιβλίο. Книга. كتاب. 書物を読む。 한국어"],
    ["characters of several tokens", "👩‍👩‍👧‍👦 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 e\u0301"],
    ["white space", "  a\t\tb \n\n\n c\r\n "],
    ["a NUL", "before\0after"],
    ["nothing", ""],
  ])("%s comes back as it was", async (_name, text) => {
    const tokens = await engine().tokenize(text, false);
    expect(await engine().detokenize(tokens)).toBe(text);
    for (const token of tokens) {
      expect(token).toBeGreaterThanOrEqual(0);
      expect(token).toBeLessThan(engine().model.vocabulary);
    }
  });

  test("the text of a special token is that token only where it is asked for", async () => {
    const special = await engine().tokenize("<|im_end|>", true);
    expect(special).toHaveLength(1);
    expect(await engine().isEndOfTurn(special[0]!)).toBe(true);

    const plain = await engine().tokenize("<|im_end|>", false);
    expect(plain.length).toBeGreaterThan(1);
    expect(await engine().detokenize(plain)).toBe("<|im_end|>");
    for (const token of plain) expect(await engine().isEndOfTurn(token)).toBe(false);
  });

  test("lone surrogates become U+FFFD instead of an error", async () => {
    const tokens = await engine().tokenize("a\ud800b", false);
    expect(await engine().detokenize(tokens)).toBe("a\ufffdb");
  });

  test("tokens that the model does not have are refused", async () => {
    for (const tokens of [[-1], [49152], [2 ** 31 - 1], [1, 2, -(2 ** 31)]]) {
      await expect(engine().detokenize(Int32Array.from(tokens))).rejects.toMatchObject({
        code: "invalid_argument",
      });
    }
    await expect(engine().isEndOfTurn(49152)).rejects.toMatchObject({ code: "invalid_argument" });
  });

  test("a part of a larger array is read as that part", async () => {
    const tokens = await engine().tokenize("one two three", false);
    const padded = Int32Array.of(5, 5, ...tokens, 5);
    const part = padded.subarray(2, 2 + tokens.length);
    expect(await engine().detokenize(part)).toBe("one two three");
  });

  test("a million characters", async () => {
    const text = "The margin of a manuscript holds notes. ".repeat(25_000);
    const tokens = await engine().tokenize(text, false);
    expect((await engine().detokenize(tokens)).length).toBe(text.length);
  });
});
