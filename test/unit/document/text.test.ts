import { readFile } from "node:fs/promises";
import fc from "fast-check";
import iconv from "iconv-lite";
import { expect, test } from "vitest";
import type { Document } from "../../../host/document/document.ts";
import { decodeText } from "../../../host/document/encoding.ts";
import { paginate } from "../../../host/document/paginate.ts";
import { readDocument } from "../../../host/document/read.ts";
import { writePdf } from "../../fixtures/documents/pdfWriter.ts";

async function read(bytes: Uint8Array | string, name: string): Promise<Document> {
  const result = await readDocument(Buffer.from(bytes), { name });
  if (!result.ok) throw new Error(`${result.error.code}: ${result.error.message}`);
  return result.value;
}

const russian =
  "Документ описывает порядок чтения файлов. Каждый раздел начинается с заголовка и содержит несколько абзацев. ";
const japanese =
  "この文書は、ファイルの読み方について説明しています。各章は見出しで始まり、いくつかの段落が続きます。\n";
const chinese = "本文档描述了读取文件的过程。每一章都以标题开头，后面有几段文字，请仔细阅读。\n";
const german =
  "Größere Fehler werden natürlich sofort gemeldet – „schön“ ist das für die Nutzer nicht. ";
const greek = "Αυτό το έγγραφο περιγράφει πώς διαβάζονται τα αρχεία και κάθε κεφάλαιο. ";
const korean = "이 문서는 파일을 읽는 방법을 설명합니다. 각 장은 제목으로 시작합니다.\n";
const polish = "Każdy rozdział zaczyna się nagłówkiem, a błędy są zgłaszane. Zażółć gęślą jaźń. ";

test.each([
  ["utf-8", russian],
  ["utf-16le", german],
  ["utf-16be", german],
  ["utf-16le", chinese],
  ["windows-1252", german],
  ["windows-1251", russian],
  ["koi8-r", russian],
  ["iso-8859-5", russian],
  ["cp866", russian],
  ["shift_jis", japanese],
  ["euc-jp", japanese],
  ["gb18030", chinese],
  ["big5", "本文件描述了讀取檔案的過程。每一章都以標題開頭，請仔細閱讀。\n"],
  ["euc-kr", korean],
  ["iso-8859-7", greek],
  ["windows-1250", polish],
  ["iso-8859-2", polish],
])("text in %s is read without being told", (encoding, sentence) => {
  const text = sentence.repeat(6);
  expect(decodeText(iconv.encode(text, encoding), "test").text).toBe(text);
});

test.each([
  ["utf-8", "UTF-8"],
  ["utf-16le", "UTF-16LE"],
  ["utf-16be", "UTF-16BE"],
  ["utf-32le", "UTF-32LE"],
  ["utf-32be", "UTF-32BE"],
])("a byte order mark of %s decides and is left out", (encoding, name) => {
  const decoded = decodeText(iconv.encode("Wörter 😀", encoding, { addBOM: true }), "test");
  expect(decoded).toEqual({ text: "Wörter 😀", encoding: name, notes: [] });
});

test("any Unicode text in UTF-8 comes back with LF line ends", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme", minLength: 1 }), (noise) => {
      const text = `Some words before and after, so that it is a text. ${noise} And it goes on.`;
      if (/[\p{Cc}\ufeff\ufffd]/u.test(text.replace(/[\t\n\r]/g, ""))) return;
      const decoded = decodeText(Buffer.from(text), "test");
      expect(decoded.text).toBe(text.replace(/\r\n?/g, "\n"));
      expect(decoded.encoding).toBe("UTF-8");
    }),
  );
});

test("line ends of every kind become LF", () => {
  expect(decodeText(Buffer.from("a\r\nb\rc\nd\r\r\ne"), "test").text).toBe("a\nb\nc\nd\n\ne");
});

test("a few stray zero bytes are left out, and the report says so", async () => {
  const words = "The clerk reads the gauge. ".repeat(40);
  const document = await read(`${words}\0${words}\0`, "notes.txt");
  expect(document.text).toBe(words + words);
  expect(document.report.notes).toEqual(["2 zero bytes were left out."]);
});

test("damaged places in UTF-8 are shown, counted and do not change the encoding", () => {
  const good = Buffer.from(russian.repeat(3));
  const damaged = Buffer.concat([good, Buffer.from([0xd0]), Buffer.from(" и дальше")]);
  const decoded = decodeText(damaged, "test");
  expect(decoded.encoding).toBe("UTF-8");
  expect(decoded.text).toBe(`${russian.repeat(3)}\ufffd и дальше`);
  expect(decoded.notes).toEqual(["1 character was not valid in UTF-8 and shown as \ufffd."]);
});

test("Markdown: headings by CommonMark's rules, front matter and code are none", async () => {
  const source = await readFile(new URL("../../fixtures/documents/harbour.md", import.meta.url));
  const document = await read(source, "harbour.md");
  expect(document.kind).toBe("markdown");
  expect(document.text).toBe(source.toString());
  expect(document.title).toBe("The harbour office");
  expect(document.outline.map(({ level, title }) => [level, title])).toEqual([
    [1, "The harbour office"],
    [2, "Depth and draught"],
    [3, "Well-known errors"],
    [2, "Fees"],
    [2, "Lights"],
    [2, "The clerk's day"],
    [2, "Pilots"],
    [2, "Ice"],
  ]);
  for (const { title, page } of document.outline) {
    expect(document.textOfPages(page, page)).toContain(title);
  }
  expect(document.pages.length).toBeGreaterThan(1);
  // A page begins at a heading where one is near, and knows it.
  expect(document.textOfPages(2, 2)).toMatch(/^(#+ |Lights)/);
  expect(document.pages[1]!.heading).toBe("Lights");
});

test("plain text: underlined headings and form feeds", async () => {
  const text = "The guide\n=========\n\nWords.\n\nA part\n------\nMore.\n\fSecond page\n\fThird\n";
  const document = await read(text, "guide.txt");
  expect(document.kind).toBe("text");
  expect(document.title).toBe("The guide");
  expect(document.outline.map(({ level, title }) => [level, title])).toEqual([
    [1, "The guide"],
    [2, "A part"],
  ]);
  expect(document.pages.map((page) => document.text.slice(page.start, page.end))).toEqual([
    "The guide\n=========\n\nWords.\n\nA part\n------\nMore.\n\f",
    "Second page\n\f",
    "Third\n",
  ]);
});

test("pages tile any text and are of a sensible size", () => {
  const units = fc.constantFrom("word ", "line end\n", "paragraph\n\n", "\f", "漢字。", "😀", "x");
  const someText = fc.array(units, { maxLength: 4000, size: "max" }).map((parts) => parts.join(""));
  fc.assert(
    fc.property(someText, (text) => {
      const pages = paginate(text, []);
      expect(pages.map((page) => text.slice(page.start, page.end)).join("")).toBe(text);
      expect(pages.map((page) => page.number)).toEqual(pages.map((_, i) => i + 1));
      for (const page of pages) {
        expect(page.end - page.start).toBeLessThanOrEqual(6000);
        expect(text.slice(page.start, page.end).isWellFormed()).toBe(true);
      }
    }),
    { numRuns: 50 },
  );
});

test("content decides the kind, the name comes second", async () => {
  expect((await read(writePdf([{ lines: ["words"] }]), "notes.txt")).kind).toBe("pdf");
  expect((await read("plain words", "letter.pdf")).kind).toBe("text");
  expect((await read("A file of PDF begins with %PDF-1.4, they say.", "pdf.md")).kind).toBe(
    "markdown",
  );
  expect((await read("int main(void) { return 0; }", "main.c")).kind).toBe("text");
});
