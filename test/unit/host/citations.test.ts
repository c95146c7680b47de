import { describe, expect, test } from "vitest";
import { AttentionMap } from "../../../host/answer/attention.ts";
import { citationsOf } from "../../../host/answer/citations.ts";
import { sentencesOf } from "../../../host/answer/sentences.ts";
import { Document } from "../../../host/document/document.ts";
import { summarise } from "../../../host/document/report.ts";

// Ten pages of 100 sentences; a token is four characters, a KV page 64.
const sentence = (index: number) =>
  `Sentence number ${String(index).padStart(4, "0")} tells of thing ${index * 7}. `;
const text = Array.from({ length: 1000 }, (_, index) => sentence(index)).join("");
const pageLength = Math.ceil(text.length / 10);
const pages = Array.from({ length: 10 }, (_, index) => ({
  number: index + 1,
  label: String(index + 1),
  start: index * pageLength,
  end: Math.min(text.length, (index + 1) * pageLength),
  status: "text" as const,
}));
const document = new Document({
  id: "x",
  name: "x.txt",
  kind: "text",
  text,
  pages,
  outline: [],
  report: { ...summarise(pages), notes: [] },
});
const tokensBefore = 80;
const documentEnd = tokensBefore + Math.ceil(text.length / 4);
const placeOf = (first: number, last: number) => {
  const start = Math.max(0, (first * 16 - tokensBefore) * 4);
  const end = Math.min(text.length, (last * 16 - tokensBefore) * 4);
  return end > start ? { start, end } : null;
};
const kvPageOf = (character: number) => Math.floor((character / 4 + tokensBefore) / 16);

/** Attention that goes to these characters of the document while the answer is written. */
function attentionTo(places: { at: number; to: number }[], answer: string): AttentionMap {
  const map = new AttentionMap(tokensBefore, documentEnd, true);
  const depth = documentEnd + 300;
  for (let at = 0; at < answer.length; at += 4) {
    const masses = new Float32Array(Math.ceil(depth / 16)).fill(0.0001);
    for (const place of places) {
      if (place.at <= at && at < place.at + 20) masses[kvPageOf(place.to)] = 0.3;
    }
    map.add(masses, depth, answer.slice(at, at + 4), at);
  }
  return map;
}

const cite = (answer: string, places: { at: number; to: number }[] = []) =>
  citationsOf(answer, sentencesOf(answer), document, attentionTo(places, answer), placeOf);

describe("citations", () => {
  test("give a quotation its page, and mark one that the document does not hold", () => {
    const answer = `It says "Sentence number 0345 tells of thing 2415." But "the moon is made of cheese" is said too.`;
    const [found, missing] = cite(answer).filter(({ from }) => from === "quotation");
    expect(found).toMatchObject({ verified: true, page: 4, sentence: 0, match: "exact" });
    expect(text.slice(found!.start!, found!.end!)).toBe("Sentence number 0345 tells of thing 2415");
    expect(missing).toMatchObject({
      quote: "the moon is made of cheese",
      verified: false,
      page: null,
      start: null,
      boxes: [],
    });
  });

  test("name what was read for each sentence, with page", () => {
    const answer =
      "The first thing is said here in many words. The second thing is said there in others.";
    const first = text.indexOf("number 0123");
    const second = text.indexOf("number 0876");
    const cited = cite(answer, [
      { at: 4, to: first },
      { at: 50, to: second },
    ]);
    expect(cited.map(({ sentence, page, from }) => [sentence, page, from])).toEqual([
      [0, 2, "attention"],
      [1, 9, "attention"],
    ]);
    expect(cited[0]!.quote).toContain("number 0123");
    expect(cited[1]!.quote).toContain("number 0876");
    for (const { quote, start, end, score } of cited) {
      expect(text.slice(start!, end!).trim()).toBe(quote);
      expect(quote.length).toBeLessThan(470);
      expect(score).toBeGreaterThan(4);
    }
  });

  test("of several places with the same words, take the one that was read", () => {
    const twice = new Document({
      ...document,
      text: text
        .replace("number 0345 tells", "number alike tells")
        .replace("number 0876 tells", "number alike tells"),
    });
    const answer = `The text says that "number alike tells" of something in the end.`;
    const map = attentionTo([{ at: 20, to: text.indexOf("number 0876") }], answer);
    const [quoted] = citationsOf(answer, sentencesOf(answer), twice, map, placeOf);
    expect(quoted).toMatchObject({ from: "quotation", page: 9, verified: true });
  });

  test("take a sentence that is the document's, word for word, for a quotation", () => {
    const answer = "Yes. Sentence number 0345 tells of thing 2415. It tells of thing 2415.";
    expect(cite(answer)).toMatchObject([
      { from: "quotation", verified: true, page: 4, sentence: 1, match: "exact" },
    ]);
    // Nearly the document's words, or few of them, are the answer's own.
    expect(cite("Sentence number 0346 tells of thing 2415. Tells of thing.")).toEqual([]);
  });

  test("of an empty answer there are none", () => {
    expect(cite("")).toEqual([]);
  });
});
