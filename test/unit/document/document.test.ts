import fc from "fast-check";
import { expect, test } from "vitest";
import { Document } from "../../../host/document/document.ts";
import { formatRanges } from "../../../host/document/ranges.ts";
import { summarise } from "../../../host/document/report.ts";
import { parsePageRange, selectPages } from "../../../host/document/selection.ts";

function makeDocument(texts: string[]): Document {
  let start = 0;
  const pages = texts.map((text, i) => {
    const page = {
      number: i + 1,
      label: String(i + 1),
      start,
      end: start + text.length,
      status: text ? ("text" as const) : ("empty" as const),
    };
    start = page.end;
    return page;
  });
  return new Document({
    id: "0",
    name: "test",
    kind: "text",
    text: texts.join(""),
    pages,
    outline: [],
    report: { ...summarise(pages), notes: [] },
  });
}

test.each([
  ["1-20,25", 41, [...Array.from({ length: 20 }, (_, i) => i + 1), 25]],
  ["25, 1–3", 41, [1, 2, 3, 25]],
  ["3-", 5, [3, 4, 5]],
  ["2,2,1-2", 5, [1, 2]],
  ["5", 5, [5]],
])("range %s of %i pages", (range, pageCount, pages) => {
  expect(parsePageRange(range, pageCount)).toEqual({ ok: true, value: pages });
});

test.each([
  ["", /no range of pages/],
  ["a-b", /no range of pages/],
  ["1,,2", /no range of pages/],
  ["-3", /no range of pages/],
  ["1-2-3", /no range of pages/],
  ["0", /41 pages/],
  ["1-42", /41 pages/],
  ["42", /41 pages/],
  ["42-", /41 pages/],
  ["9999999999", /no range of pages/],
  ["5-2", /backwards/],
])("range %s is refused with a reason", (range, reason) => {
  const result = parsePageRange(range, 41);
  expect(result).toMatchObject({ ok: false, error: { code: "document_bad_range" } });
  expect(!result.ok && result.error.message).toMatch(reason);
});

test("formatting and parsing a range are inverse", () => {
  const someNumbers = fc.uniqueArray(fc.integer({ min: 1, max: 60 }), { minLength: 1 });
  fc.assert(
    fc.property(someNumbers, (numbers) => {
      const sorted = numbers.sort((a, b) => a - b);
      expect(parsePageRange(formatRanges(sorted), 60)).toEqual({ ok: true, value: sorted });
    }),
  );
  expect(formatRanges([1, 3, 5, 6, 8], 2)).toBe("1,3 and 3 more");
});

const somePages = fc.array(fc.string({ maxLength: 8 }), { minLength: 1, maxLength: 12 });

test("pageOf gives the page that holds the character", () => {
  fc.assert(
    fc.property(somePages, (texts) => {
      const document = makeDocument(texts);
      for (let offset = 0; offset < document.text.length; offset++) {
        const page = document.pageOf(offset);
        expect(page.start <= offset && offset < page.end).toBe(true);
      }
      expect(document.pages).toContain(document.pageOf(-1));
      expect(document.pageOf(document.text.length + 5).number).toBe(texts.length);
    }),
  );
});

test("selected pages keep number and text, and tile the new text", () => {
  fc.assert(
    fc.property(somePages, fc.infiniteStream(fc.boolean()), (texts, coin) => {
      const numbers = texts.map((_, i) => i + 1).filter(() => coin.next().value);
      if (numbers.length === 0) return;
      const document = makeDocument(texts);
      const result = selectPages(document, formatRanges(numbers));
      const expected = numbers.map((number) => texts[number - 1]!).join("");
      if (expected === "") {
        const whole = numbers.length === texts.length;
        if (!whole)
          expect(result).toMatchObject({ ok: false, error: { code: "document_no_text" } });
        return;
      }
      if (!result.ok) throw new Error(result.error.message);
      const part = result.value;
      expect(part.text).toBe(expected);
      expect(part.pages.map((page) => page.number)).toEqual(numbers);
      expect(part.wholePageCount).toBe(texts.length);
      for (const page of part.pages) {
        expect(part.text.slice(page.start, page.end)).toBe(texts[page.number - 1]);
        expect(part.textOfPages(page.number, page.number)).toBe(texts[page.number - 1]);
      }
    }),
  );
});

test("a selection of a selection counts from the whole", () => {
  const document = makeDocument(["a", "b", "c", "d"]);
  const first = selectPages(document, "2-4");
  if (!first.ok) throw new Error(first.error.message);
  const second = selectPages(first.value, "3");
  if (!second.ok) throw new Error(second.error.message);
  expect(second.value.selection).toEqual({ ranges: "3", wholePages: 4, wholeCharacters: 4 });
  expect(selectPages(first.value, "1-2")).toMatchObject({
    ok: false,
    error: { code: "document_bad_range", message: expect.stringContaining("2-4") },
  });
});
