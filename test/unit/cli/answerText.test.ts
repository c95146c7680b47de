import { describe, expect, test } from "vitest";
import { certificateText, citationsText } from "../../../cli/answerText.ts";
import { type Answer, answerSchema, type Citation } from "../../../contract/answer.ts";

const plain = { style: (_style: unknown, text: string) => text };

const citation = (change: Partial<Citation>): Citation => ({
  quote: "reads fixed width files",
  page: 17,
  verified: true,
  from: "quotation",
  match: "exact",
  start: 100,
  end: 123,
  sentence: 0,
  boxes: [],
  ...change,
});

const answer: Answer = answerSchema.parse({
  answer: "It is.",
  stop: "end_of_turn",
  citations: [],
  coverage: {
    documentTokens: 27_512,
    tokensInContext: 27_512,
    pages: "1-41",
    documentPages: 41,
    pagesWithoutText: [],
    mode: "ab-sparse",
    budgetTokens: 2048,
    profile: "qwen",
    kvBytesPerToken: 25_165_824,
    digestBytesPerToken: 2_000_000,
    denseBytesPerToken: 338_000_000,
  },
  timing: {
    prefillTokens: 27_560,
    cachedTokens: 0,
    cachedInMemory: 0,
    cachedOnDisk: 0,
    prefillSeconds: 150.2,
    prefillTokensPerSecond: 183.5,
    decodeTokens: 64,
    decodeSeconds: 2.3,
    decodeTokensPerSecond: 28.1,
    depth: 27_650,
    firstTokenSeconds: 150.9,
    modelLoadSeconds: 0.4,
    documentSeconds: 0.2,
  },
  memory: {
    weightsBytes: 1,
    kvBytes: 1,
    kvPoolBytes: 1,
    digestBytes: 1,
    workspaceBytes: 1,
    freeBytes: 1,
  },
  model: { name: "m", fingerprint: "f", device: "cpu" },
  document: { id: "d", path: "/d", title: "d" },
  notices: [],
});

describe("the certificate", () => {
  test("says that all was read, how, and how fast", () => {
    expect(certificateText(answer, plain)).toBe(
      [
        "✓ 27,512 of 27,512 tokens in context, pages 1-41 of 41; nothing was cut.",
        "  AB-Sparse, 2,048 tokens per head (qwen); 27.2 MB read per token (8.0 % of dense 338 MB).",
        "  Read 27,560 tokens in 150 s (184/s).",
        "  Answer of 64 tokens at 28.1/s, depth 27,650; first token after 151 s.",
        "  m on cpu.",
        "",
      ].join("\n"),
    );
  });

  test("does not hide what is missing", () => {
    const holes = structuredClone(answer);
    holes.coverage.tokensInContext = 100;
    holes.coverage.pagesWithoutText = [3, 9];
    const text = certificateText(holes, plain);
    expect(text).toContain("✗ Only 100 of 27,512 tokens");
    expect(text).toContain("Pages without text: 3, 9.");
    expect(text).not.toContain("nothing was cut");
  });

  test("says what was found in memory and on disk", () => {
    const again = structuredClone(answer);
    Object.assign(again.timing, { prefillTokens: 0, cachedInMemory: 500, cachedOnDisk: 27_060 });
    expect(certificateText(again, plain)).toContain(
      "Read before; 500 from memory; 27,060 from disk.",
    );
  });
});

describe("citations", () => {
  test("show page and how they were found; one that is not found is marked", () => {
    const text = citationsText(
      {
        ...answer,
        citations: [
          citation({}),
          citation({ quote: "made up", page: null, verified: false, start: null, end: null }),
          citation({ quote: "elsewhere", page: 30, from: "attention", start: 900, end: 909 }),
        ],
      },
      plain,
    );
    expect(text).toMatch(/✓ p\. 17 +“reads fixed width files” \(quoted\)/);
    expect(text).toMatch(/✗ +“made up” \(NOT in the document\)/);
    expect(text).toMatch(/· p\. 30 +“elsewhere” \(read while writing\)/);
  });

  test("leave out a passage around words that are quoted", () => {
    const around = citation({ quote: "around", from: "attention", start: 90, end: 200 });
    expect(citationsText({ ...answer, citations: [citation({}), around] }, plain)).not.toContain(
      "around",
    );
    expect(citationsText(answer, plain)).toBe("");
  });
});
