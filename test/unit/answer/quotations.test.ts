import { readFile } from "node:fs/promises";
import { beforeAll, expect, test } from "vitest";
import { findQuotations } from "../../../host/answer/findQuotations.ts";
import { matchQuotation, type QuotationMatch } from "../../../host/answer/quotations.ts";
import { Document, type DocumentKind } from "../../../host/document/document.ts";
import { paginate } from "../../../host/document/paginate.ts";
import { summarise } from "../../../host/document/report.ts";

function makeDocument(pageTexts: string[], kind: DocumentKind = "text"): Document {
  let start = 0;
  const pages = pageTexts.map((text, i) => {
    const end = start + text.length;
    const page = { number: i + 1, label: `${i + 1}`, start, end, status: "text" as const };
    start = end;
    return page;
  });
  const text = pageTexts.join("");
  const report = { ...summarise(pages), notes: [] };
  return new Document({ id: "0", name: "test", kind, text, pages, outline: [], report });
}

const matchedText = (document: Document, match: QuotationMatch | undefined): string[] =>
  (match?.ranges ?? []).map(({ start, end }) => document.text.slice(start, end));

let harbour: Document;
beforeAll(async () => {
  const source = await readFile(
    new URL("../../fixtures/documents/harbour.md", import.meta.url),
    "utf8",
  );
  const pages = paginate(source, []);
  harbour = makeDocument(
    pages.map((page) => source.slice(page.start, page.end)),
    "markdown",
  );
});

// What is found in an answer: the quoted words.
test.each([
  ['He says "the margin is 1.2 metres" here.', ["the margin is 1.2 metres"]],
  [
    "It reads “the lead line is used”, and “no ship may pass”.",
    ["the lead line is used", "no ship may pass"],
  ],
  ["Nested: “he said ‘no’ and “never” again” ends.", ["he said ‘no’ and “never” again"]],
  ["German: „die Tiefe des Wassers“ und »die Lampe«.", ["die Tiefe des Wassers", "die Lampe"]],
  ["French: « la profondeur de l'eau » suffit.", ["la profondeur de l'eau"]],
  ["日本語：「水の深さ」と『本』。", ["水の深さ", "本"]],
  ["As ‘the tug is sent’ shows, don’t rub it out.", ["the tug is sent"]],
  ["As 'the tug is sent', it isn't noted in the clerk's book.", ["the tug is sent"]],
  ["The pilots' rule and the clerks' books", []],
  ["‘the pilots’ rule holds here.’ So it is.", ["the pilots’ rule holds here."]],
  ['A 5" pipe and a 3" pipe', []],
  ['An open " mark, and nothing', []],
  ['One "opens here\n\nand closes" there', []],
  [
    '(“in brackets”) and **"in bold"** and *"in italics"*',
    ["in brackets", "in bold", "in italics"],
  ],
  ['"first" - "second"', ["first", "second"]],
  ['Empty "" and "..." are none', []],
  ["Call `read.table(file)` or `gauge`.", []],
  [
    "It says `the tug is sent when a buoy has drifted` there.",
    ["the tug is sent when a buoy has drifted"],
  ],
  ['```\nx = f("a") + 1\n```\nand “words”', ["words"]],
  [
    "```\nThe day begins at a quarter to five with the reading\n```",
    ["The day begins at a quarter to five with the reading"],
  ],
  ["> The day begins\n> at a quarter to five\n\nafter", ["The day begins\nat a quarter to five"]],
  [
    "> “Nothing is added after the signatures.” (page 3)",
    ["Nothing is added after the signatures."],
  ],
  [
    "> Nothing is added after the signatures.\n> — The clerk's day, page 3",
    ["Nothing is added after the signatures."],
  ],
  ["> Nothing is added. (p. 12)", ["Nothing is added."]],
])("quotations in %j", (answer, texts) => {
  expect(findQuotations(answer).map((quotation) => quotation.text)).toEqual(texts);
});

test("a quotation's place in the answer includes its marks", () => {
  const answer =
    "Yes: “the tug is sent”. And\n\n> in the evening\n> they are read\n\nso `a b c d e f` it is.";
  const found = findQuotations(answer);
  expect(found.map(({ start, end }) => answer.slice(start, end))).toEqual([
    "“the tug is sent”",
    "> in the evening\n> they are read",
    "`a b c d e f`",
  ]);
  expect(found.map(({ style }) => style)).toEqual(["marks", "block", "code"]);
});

// Quotations as models write them, and what they stand for in the document.
test.each([
  [
    "white space",
    "A clerk who finds  a mistake\n\tin one of them",
    "A clerk who finds a mistake in one of them",
  ],
  [
    "case and an end of its own",
    "the harbour office keeps THREE books,",
    "The harbour office keeps three books",
  ],
  [
    "quotation marks",
    '"Trust the line before the gauge," says the old rule',
    "Trust the line before the gauge,” says the old rule",
  ],
  ["dashes", "Well known errors", "Well-known errors"],
  [
    "hyphenation",
    "the depth of the wa-\nter at every hour",
    "the depth of the water at every\nhour",
  ],
  [
    "emphasis in the document",
    "the steamer Ariadne had run aground",
    "the steamer *Ariadne* had run aground",
  ],
  [
    "emphasis in the quotation",
    "**no ship** may pass the outer buoy",
    "no ship may pass the outer\nbuoy",
  ],
  [
    "a link in the document",
    "The tariff of the neighbouring port is higher",
    "The [tariff](https://example.org/tariff(1903))\nof the neighbouring port is higher",
  ],
  [
    "a capital in brackets",
    "[t]he gauge at the north mole freezes",
    "the gauge at the\nnorth mole freezes",
  ],
  ["full-width and ligature forms", "ｔwo ﬁxed green lights", "Two fixed green lights"],
  ["a minus sign", "At temperatures below -5 °C", "At temperatures below −5 °C"],
])("tolerates %s", (_, quote, text) => {
  const match = matchQuotation(quote, harbour);
  expect(matchedText(harbour, match)).toEqual([text]);
  expect(match).toMatchObject({ kind: "exact", found: 1, weak: false });
});

test.each([
  [
    "another number",
    "A ship may enter when the depth of the water exceeds her draught by at least 0.85 metres",
  ],
  ["another sign", "5 °C the gauge at the north mole freezes"],
  ["a negation more", "it must be trusted then, and the lead line is used instead"],
  ["a negation less", "Ships that wait for the tide do not pay nothing for the first six hours"],
  ["words of its own", "The harbour office was founded by the king for the good of all fishermen"],
  ["the end of a word", "arbour office keeps three boo"],
  [
    "half of it",
    "Two fixed green lights, one above the other, were painted by a famous artist of the town",
  ],
  ["digits run together", "from 20 to 50 m becomes 2050"],
  ["nothing but marks", "…"],
])("does not find a quotation with %s", (_, quote) => {
  expect(matchQuotation(quote, harbour)).toBeUndefined();
});

test("pieces around an ellipsis, in order and near each other", () => {
  const quote =
    "A buoy that has drifted by less than ten metres is noted in pencil […] and the tug is sent";
  const match = matchQuotation(quote, harbour);
  expect(match).toMatchObject({ kind: "pieces", found: 1, weak: false });
  expect(matchedText(harbour, match)).toEqual([
    "A buoy that has drifted by less\nthan ten metres is noted in pencil",
    "and the tug is\nsent",
  ]);
  expect(match!.start).toBe(match!.ranges[0]!.start);
  expect(match!.end).toBe(match!.ranges[1]!.end);
  const inserted = "what he [the pilot] orders is entered by the mate ... with the minute";
  expect(
    matchQuotation(
      "From there on the pilot commands … entered by the mate . . . with the minute",
      harbour,
    )?.ranges,
  ).toHaveLength(3);
  expect(matchQuotation(inserted, harbour)).toMatchObject({ kind: "pieces" });
  // In the wrong order, or with a piece that is not there.
  expect(
    matchQuotation(
      "and the tug is sent … A buoy that has drifted by less than ten metres",
      harbour,
    ),
  ).toBeUndefined();
  expect(
    matchQuotation("A buoy that has drifted … was painted over by the harbour board", harbour),
  ).toBeUndefined();
});

test("a few other words give a near match, marked as one", () => {
  const quote =
    "Then the clerk walks to the end of the pier, counts the buoys, and notes which of them have drifted";
  const match = matchQuotation(quote, harbour);
  expect(match?.kind).toBe("fuzzy");
  expect(match!.found).toBeGreaterThan(0.9);
  expect(match!.found).toBeLessThan(1);
  expect(matchedText(harbour, match)).toEqual([
    "Then the clerk walks to the end of\nthe mole, counts the buoys, and notes which of them have drifted",
  ]);
  const slips =
    "Nothing is addded after the signature. What is remembered later goes to next day's page";
  expect(matchQuotation(slips, harbour)).toMatchObject({ kind: "fuzzy" });
});

test("one and two words are found and flagged as weak", () => {
  expect(matchQuotation("Concordia", harbour)).toMatchObject({ kind: "exact", weak: true });
  expect(matchQuotation("green lights", harbour)).toMatchObject({ kind: "exact", weak: true });
  expect(matchQuotation("two fixed green lights", harbour)).toMatchObject({ weak: false });
});

test("of several occurrences the one nearest to the expected page is taken", () => {
  const pages = Array.from({ length: 9 }, (_, i) =>
    [1, 4, 8].includes(i) ? `The tug is sent at once. Page ${i + 1}.\n` : `Nothing, ${i + 1}.\n`,
  );
  const document = makeDocument(pages);
  const pageNear = (nearPage?: number) =>
    matchQuotation("the tug is sent at once", document, nearPage === undefined ? {} : { nearPage });
  expect(pageNear()).toMatchObject({ page: 2, occurrences: 3 });
  expect(pageNear(1)?.page).toBe(2);
  expect(pageNear(4)?.page).toBe(5);
  expect(pageNear(8)?.page).toBe(9);
  expect(document.text.slice(pageNear(8)!.start)).toMatch(/^The tug is sent at once. Page 9/);
});

test("a quotation over a page break skips the foot and the head between", () => {
  const document = makeDocument(
    [
      "The first chapter.\nOnly when both lamps burn may a ship pass\n1 See the chapter on lights, and the next.\n12\n\n",
      "Chapter 2: Ships 13\nthe outer buoy, whatever signal she is given by others.\nMore words.\n\n",
    ],
    "pdf",
  );
  const quote =
    "Only when both lamps burn may a ship pass the outer buoy, whatever signal she is given";
  const match = matchQuotation(quote, document);
  expect(match).toMatchObject({ kind: "pieces", found: 1, page: 1 });
  expect(matchedText(document, match)).toEqual([
    "Only when both lamps burn may a ship pass",
    "the outer buoy, whatever signal she is given",
  ]);
  // With the break in the second half, and in the first.
  expect(
    matchedText(
      document,
      matchQuotation(
        "The first chapter. Only when both lamps burn may a ship pass the outer buoy",
        document,
      ),
    ),
  ).toEqual(["The first chapter.\nOnly when both lamps burn may a ship pass", "the outer buoy"]);
  expect(
    matchedText(
      document,
      matchQuotation(
        "ship pass the outer buoy, whatever signal she is given by others. More words",
        document,
      ),
    ),
  ).toEqual(["ship pass", "the outer buoy, whatever signal she is given by others.\nMore words"]);
  expect(
    matchQuotation(
      "Only when both lamps burn may a ship pass through the canal at night",
      document,
    ),
  ).toBeUndefined();
});

test("scripts without spaces, right to left, and decomposed letters", () => {
  const document = makeDocument([
    "港の事務所には三冊の本がある。第一の本には船の名前が書かれている。\n",
    "יש שלושה ספרים במשרד הנמל. המים עמוקים.\n",
    "Cafe\u0301 und Universit\u00e4t, пе́рвый том\n",
  ]);
  expect(matchQuotation("三冊の本がある", document)).toMatchObject({ page: 1, kind: "exact" });
  expect(matchQuotation("第一の本には船の名前", document)?.weak).toBe(false);
  expect(matchQuotation("שלושה ספרים במשרד", document)).toMatchObject({ page: 2 });
  const match = matchQuotation("café und Universita\u0308t", document);
  expect(matchedText(document, match)).toEqual(["Cafe\u0301 und Universit\u00e4t"]);
});

test("a text that repeats a few letters does not hold the search up", () => {
  const document = makeDocument(["a".repeat(1_000_000), "ab ".repeat(300_000)]);
  expect(matchQuotation("aaa aaa aaa aaa aaa aaa", document)).toBeUndefined();
  expect(matchQuotation("ab ab ab ab ab ab ba ba", document)).toBeUndefined();
  expect(matchQuotation("ab ab ab", document, { nearPage: 2 })).toMatchObject({ kind: "exact" });
});
