import { expect, test } from "vitest";
import type { Document } from "../../../host/document/document.ts";
import { type ReadOptions, readDocument } from "../../../host/document/read.ts";
import { type PdfOptions, type PdfPage, writePdf } from "../../fixtures/documents/pdfWriter.ts";

async function read(
  pages: PdfPage[],
  options: PdfOptions = {},
  readOptions: ReadOptions = {},
): Promise<Document> {
  const result = await readDocument(writePdf(pages, options), readOptions);
  if (!result.ok) throw new Error(`${result.error.code}: ${result.error.message}`);
  return result.value;
}

const hex = (codes: number[], digits: number): string =>
  codes.map((code) => code.toString(16).padStart(digits, "0")).join("");

/** Draws bytes with font /F3, whose meanings the test gives. */
const mapped = (codes: number[]): string => `BT /F3 12 Tf 72 700 Td <${hex(codes, 2)}> Tj ET`;

const prose =
  "The clerk reads the gauge at noon and writes the number into the book of the harbour office.";

test("text, title, printed page numbers, outline and sizes", async () => {
  const document = await read(
    [
      { lines: ["Preface of the book"] },
      { lines: ["First page", "and its second line"] },
      { lines: ["Last (third) page"] },
    ],
    {
      title: "Häfen & Schiffe",
      pageLabels: "<< /Nums [0 << /S /r >> 1 << /S /D /P (A-) >>] >>",
      outline: [
        { title: "Preface", page: 0 },
        { title: "Part — one", page: 1, children: [{ title: "Its end", page: 2 }] },
      ],
    },
  );
  expect(document.kind).toBe("pdf");
  expect(document.id).toMatch(/^[0-9a-f]{64}$/);
  expect(document.title).toBe("Häfen & Schiffe");
  expect(document.text).toBe(
    "Preface of the book\n\nFirst page\nand its second line\n\nLast (third) page\n\n",
  );
  expect(document.pages.map((page) => page.label)).toEqual(["i", "A-1", "A-2"]);
  expect(document.pages.map((page) => page.number)).toEqual([1, 2, 3]);
  expect(document.pages.map((page) => [page.width, page.height])).toEqual(
    Array(3).fill([612, 792]),
  );
  expect(document.outline).toEqual([
    { title: "Preface", level: 1, page: 1 },
    { title: "Part — one", level: 1, page: 2 },
    { title: "Its end", level: 2, page: 3 },
  ]);
  expect(document.report.summary).toBe("All 3 pages have text.");
  expect(document.report.notes).toEqual([]);
});

test("a word broken at a line's end follows what the document itself shows", async () => {
  const document = await read([
    { lines: ["The facil-", "ities of this well-", "known house are odd-", "shaped here"] },
    { lines: ["Facilities are well-known to all"] },
  ]);
  // Joined with a witness, hyphen kept with a witness, as printed without one.
  expect(document.textOfPages(1, 1)).toBe(
    "The facilities of this well-known house are odd-\nshaped here\n\n",
  );
  const offset = document.text.indexOf("ities of");
  const [box] = document.boxesOf(offset, offset + 5);
  expect(box?.page).toBe(1);
  expect(box?.top).toBeGreaterThan(document.boxesOf(0, 3)[0]!.top + 10);
});

test("every character has its box from the top left of the page as shown", async () => {
  const upright = await read([{ lines: [prose] }]);
  const [line] = upright.boxesOf(0, prose.length);
  expect(line?.left).toBeCloseTo(72, 0);
  // The base line is 72 points below the top, and the letters stand on it.
  expect(line!.top).toBeLessThan(72);
  expect(line!.top + line!.height).toBeGreaterThan(72);
  expect(line!.height).toBeLessThan(20);
  expect(upright.boxesOf(0, prose.length)).toHaveLength(1);
  const letters = [...prose].map((_, i) => upright.boxesOf(i, i + 1)[0]);
  const drawn = letters.filter((box) => box !== undefined);
  for (let i = 1; i < drawn.length; i++) {
    expect(drawn[i]!.left).toBeGreaterThan(drawn[i - 1]!.left);
  }

  const [cropped] = (await read([{ lines: [prose], cropBox: [50, 100, 612, 780] }])).boxesOf(0, 3);
  expect(cropped?.left).toBeCloseTo(72 - 50, 0);
  expect(cropped!.top).toBeCloseTo(line!.top - 12, 0);

  const turned = await read([{ lines: [prose], rotate: 90 }]);
  expect([turned.pages[0]!.width, turned.pages[0]!.height]).toEqual([792, 612]);
  const [vertical] = turned.boxesOf(0, 3);
  // Turned clockwise, the old top is on the right.
  expect(vertical!.left + vertical!.width).toBeCloseTo(792 - line!.top, 0);
  expect(vertical!.top).toBeCloseTo(72, 0);
  expect(vertical!.height).toBeGreaterThan(vertical!.width);
});

test("boxes of a range over two lines and two pages", async () => {
  const document = await read([{ lines: ["one two", "three four"] }, { lines: ["five six"] }]);
  const start = document.text.indexOf("two");
  const end = document.text.indexOf("five") + 4;
  const boxes = document.boxesOf(start, end);
  expect(boxes.map((box) => box.page)).toEqual([1, 1, 2]);
  expect(boxes[1]!.top - boxes[0]!.top).toBeCloseTo(14, 0);
  expect(document.boxesOf(end, end)).toEqual([]);
});

test("characters beyond ASCII: ligatures, soft hyphens, astral and impossible ones", async () => {
  const document = await read([{ content: mapped([1, 2, 3, 4, 5, 6]) }], {
    unicode: { 1: "ﬁ", 2: "\u00ad", 3: "😀", 4: "é", 5: "\u0001", 6: "ж" },
  });
  expect(document.text).toBe("fi-😀é\ufffdж\n\n");
  const emoji = document.text.indexOf("😀");
  // Both halves of a surrogate pair carry the box of the character.
  expect(document.boxesOf(emoji, emoji + 1)).toEqual(document.boxesOf(emoji + 1, emoji + 2));
  expect(document.text.isWellFormed()).toBe(true);
});

test("each page's status: text, empty, probably scanned, garbled", async () => {
  const lines = Array(8).fill(prose);
  const shifted = [...prose.repeat(5)].map((c) => c.charCodeAt(0) - 29);
  const document = await read(
    [
      { lines },
      {},
      { picture: 1 },
      { picture: 0.9, lines: ["Page 4"] },
      { picture: 0.9, lines },
      { picture: 0.2, lines: ["A small picture and a caption"] },
      { content: `BT /F2 12 Tf 72 700 Td <${hex(shifted, 4)}> Tj ET` },
      { content: mapped(Array(40).fill(1)) },
      { content: "/X0 Do" },
    ],
    { unicode: { 1: "\ue123" }, forms: ["q 600 0 0 780 0 0 cm /Picture Do Q"] },
  );
  expect(document.pages.map((page) => page.status)).toEqual([
    "text",
    "empty",
    "scanned",
    "scanned",
    "text",
    "text",
    "garbled",
    "garbled",
    "scanned",
  ]);
  expect(document.report.counts).toEqual({ text: 3, empty: 1, scanned: 3, garbled: 2, broken: 0 });
  expect(document.report.summary).toBe(
    "3 of 9 pages have text; page 2 is empty; pages 3-4,9 are probably scanned; pages 7-8 have garbled text.",
  );
  expect(document.pagesWithoutText).toEqual([2, 3, 4, 9]);
});

test("what is filled into a form is read, with its place", async () => {
  const document = await read([{ lines: ["Name of the ship:"], field: "Concordia of Umea" }]);
  expect(document.text).toBe("Name of the ship:\nConcordia of Umea\n\n");
  const at = document.text.indexOf("Concordia");
  const [box] = document.boxesOf(at, at + 9);
  expect(box!.left).toBeCloseTo(74, 0);
  expect(box!.top).toBeGreaterThan(792 - 520 - 5);
  expect(box!.top + box!.height).toBeLessThan(792 - 500 + 5);
});

test("pages tile the text, and empty ones take none of it", async () => {
  const document = await read([{}, { lines: ["one"] }, {}, {}, { lines: ["two"] }, {}]);
  let at = 0;
  for (const page of document.pages) {
    expect(page.start).toBe(at);
    at = page.end;
  }
  expect(at).toBe(document.text.length);
  expect(document.pageOf(document.text.indexOf("one")).number).toBe(2);
  expect(document.pageOf(document.text.indexOf("two")).number).toBe(5);
});

test("a PDF that only its owner's password protects is read; one with a password opens with it", async () => {
  const pages = [{ lines: ["A secret"] }];
  const free = await read(pages, { title: "Title", encrypt: { user: "", owner: "owner" } });
  expect([free.text, free.title]).toEqual(["A secret\n\n", "Title"]);
  const opened = await read(
    pages,
    { encrypt: { user: "sesame", owner: "owner" } },
    { password: "sesame" },
  );
  expect(opened.text).toBe("A secret\n\n");
});

test("progress comes page by page and ends with the last", async () => {
  const seen: { page: number; pages: number }[] = [];
  await read(Array(30).fill({ lines: [prose] }), {}, { onProgress: (step) => seen.push(step) });
  expect(seen.at(-1)).toEqual({ page: 30, pages: 30 });
  for (let i = 1; i < seen.length; i++) expect(seen[i]!.page).toBeGreaterThan(seen[i - 1]!.page);
});

test("a chosen range is the same text as in the whole, and the whole stays known", async () => {
  const pages = [
    { lines: ["The facil-", "ities"] },
    { lines: ["Second page"] },
    { lines: ["Third page: facilities"] },
  ];
  const options = {
    outline: [
      { title: "One", page: 0 },
      { title: "Three", page: 2 },
    ],
  };
  const whole = await read(pages, options);
  const part = await read(pages, options, { pages: "1-2" });
  expect(whole.text.startsWith(part.text)).toBe(true);
  expect(part.text).toContain("facilities");
  expect(part.id).toBe(whole.id);
  expect(part.selection).toEqual({
    ranges: "1-2",
    wholePages: 3,
    wholeCharacters: whole.text.length,
  });
  expect([part.wholePageCount, whole.wholePageCount, part.pageRange]).toEqual([3, 3, "1-2"]);
  expect(part.outline.map((entry) => entry.title)).toEqual(["One"]);
  const last = await read(pages, options, { pages: "3" });
  expect(last.boxesOf(0, 5)).toEqual(
    whole.boxesOf(whole.pages[2]!.start, whole.pages[2]!.start + 5),
  );
});
