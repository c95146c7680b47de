import { describe, expect, test } from "vitest";
import { checkFit, type Demand } from "../../../host/prefill/fit.ts";

const demand = (change: Partial<Demand> = {}): Demand => ({
  contextTokens: 8192,
  documentTokens: 7000,
  aroundTokens: 200,
  questionTokens: 30,
  turns: 0,
  answerTokens: 512,
  pages: Array.from({ length: 12 }, (_, index) => ({ number: index + 1, tokens: 720 })),
  ...change,
});

const messageOf = (change: Partial<Demand>): string => {
  try {
    checkFit(demand(change));
  } catch (error) {
    const { code, message } = error as { code: string; message: string };
    return `${code}: ${message}`;
  }
  return "fits";
};

describe("the context", () => {
  test("takes what fits to the last token", () => {
    const spare = 8192 - 7000 - 200 - 30 - 512;
    expect(messageOf({})).toBe("fits");
    expect(messageOf({ documentTokens: 7000 + spare })).toBe("fits");
    expect(messageOf({ documentTokens: 7001 + spare })).toMatch(/^context_exceeded/);
  });

  test("says all numbers and what can be done", () => {
    const message = messageOf({ documentTokens: 9000 });
    expect(message).toContain("The document has 9,000 tokens, the question 30");
    expect(message).toContain("200, and the answer may have 512: 9,742 together");
    expect(message).toContain("context holds 8,192");
    // 8,192 − 200 − 30 − 512 = 7,450 tokens are room for ten pages of 720.
    expect(message).toContain("pages 1-10 fit");
    expect(message).toContain("longer context");
    expect(message).not.toContain("less room");
  });

  test("names the pages that fit, from the first chosen one", () => {
    const pages = [7, 8, 9, 10].map((number) => ({ number, tokens: 3000 }));
    expect(messageOf({ documentTokens: 12_000, pages })).toContain("pages 7-8 fit");
    const first = [
      { number: 3, tokens: 7000 },
      { number: 4, tokens: 7000 },
    ];
    expect(messageOf({ documentTokens: 14_000, pages: first })).toContain("pages 3 fit");
    const large = [{ number: 1, tokens: 20_000 }];
    expect(messageOf({ documentTokens: 20_000, pages: large })).not.toContain("--pages");
    const gap = [
      { number: 1, tokens: 3000 },
      { number: 5, tokens: 3000 },
      { number: 6, tokens: 9000 },
    ];
    expect(messageOf({ documentTokens: 15_000, pages: gap })).not.toContain("--pages");
  });

  test("offers a shorter answer where that is enough, and a new chat", () => {
    expect(messageOf({ answerTokens: 2000 })).toContain("962 tokens fit");
    const chat = messageOf({ questionTokens: 3000, turns: 4 });
    expect(chat).toContain("the question with the chat before it 3,000");
    expect(chat).toContain("Start a new chat");
  });
});
