import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { sentenceAt, sentencesOf } from "../../../host/answer/sentences.ts";

const sentences = (text: string) =>
  sentencesOf(text).map(({ start, end }) => text.slice(start, end));

describe("sentencesOf", () => {
  test("splits prose, also where lines break anywhere", () => {
    expect(sentences("One is here. Two\nis there! Is three?  Four")).toEqual([
      "One is here.",
      "Two\nis there!",
      "Is three?",
      "Four",
    ]);
  });

  test("keeps numbers and abbreviations of code together", () => {
    expect(sentences('It takes 3.5 s with "read.fwf", version 4.2.2.')).toHaveLength(1);
  });

  test("takes paragraphs, headings and list items as sentences", () => {
    expect(sentences("A list:\n- one\n- two\n1. three\n\nEnd")).toEqual([
      "A list:",
      "- one",
      "- two",
      "1. three",
      "End",
    ]);
  });

  test("gives ordered spans without white space that cover every letter", () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.constantFrom("a", "B", ". ", "! ", "\n", "\n\n", "- ", "1. ", " ", "é", "«", "?"),
          {
            maxLength: 60,
          },
        ),
        (parts) => {
          const text = parts.join("");
          const spans = sentencesOf(text);
          let at = 0;
          let covered = "";
          for (const { start, end } of spans) {
            expect(start).toBeGreaterThanOrEqual(at);
            expect(end).toBeGreaterThan(start);
            expect(text.slice(start, end)).toBe(text.slice(start, end).trim());
            covered += text.slice(start, end);
            at = end;
          }
          expect(covered.replace(/\s/g, "")).toBe(text.replace(/\s/g, ""));
        },
      ),
      { numRuns: 500, seed: 10 },
    );
  });
});

test("sentenceAt finds the sentence of a place", () => {
  const text = "One. Two. Three.";
  const spans = sentencesOf(text);
  expect(spans).toHaveLength(3);
  expect([0, 3, 4, 5, 9, 10, 15, 99].map((at) => sentenceAt(spans, at))).toEqual([
    0, 0, 0, 1, 1, 2, 2, 2,
  ]);
});
