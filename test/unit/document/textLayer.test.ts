import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inflateSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Document } from "../../../host/document/document.ts";
import { PagePictures } from "../../../host/document/pdf/pagePictures.ts";
import { readDocument } from "../../../host/document/read.ts";
import { detailOf, find, pageText } from "../../../host/document/textLayer.ts";
import { writePdf } from "../../fixtures/documents/pdfWriter.ts";

let folder: string;
let path: string;
let pdf: Document;
const pictures = new PagePictures();

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "scholia-layer-"));
  path = join(folder, "a.pdf");
  const bytes = writePdf([
    { lines: ["The ferry leaves at", "nine from the old harbour."] },
    { lines: ["Nothing of the kind here (see 1.2)."] },
    { lines: ["The FERRY  leaves", "at nine again."] },
  ]);
  await writeFile(path, bytes);
  pdf = await open(path);
});

afterAll(async () => {
  pictures.close();
  await rm(folder, { recursive: true });
});

async function open(file: string): Promise<Document> {
  const result = await readDocument(file);
  if (!result.ok) throw new Error(result.error.message);
  return result.value;
}

describe("the text layer", () => {
  test("has every line of a page with its characters and its place", () => {
    const page = pageText(pdf, 1);
    const document = detailOf(pdf, "A");
    expect(document).toMatchObject({ title: "A", hasLayout: true, documentPages: 3 });
    const texts = page.lines.map(({ start, end }) =>
      page.text.slice(start - page.start, end - page.start),
    );
    expect(texts).toEqual(["The ferry leaves at", "nine from the old harbour."]);
    const [first, second] = page.lines;
    const { width = 0, height = 0 } = document.pages[0]!;
    expect(first!.top + first!.height).toBeLessThanOrEqual(second!.top + 1);
    for (const line of page.lines) {
      expect(line.left).toBeGreaterThan(0);
      expect(line.left + line.width).toBeLessThan(width);
      expect(line.top + line.height).toBeLessThan(height);
    }
    expect(() => pageText(pdf, 4)).toThrow(/not among/);
  });

  test("finds words whatever their case and line breaks, and tells what stands around", () => {
    const found = find(pdf, "ferry leaves  AT nine", 10);
    expect(found.total).toBe(2);
    expect(found.passages.map(({ page }) => page)).toEqual([1, 3]);
    const [first] = found.passages;
    expect(first).toMatchObject({ before: "The ", match: "ferry leaves at nine" });
    expect(first!.after).toMatch(/^ from the old harbour/);
    // One box on each of the two lines.
    expect(first!.boxes).toHaveLength(2);
    expect(find(pdf, "the", 1)).toMatchObject({ total: 4, passages: [{ page: 1 }] });
    // Signs of regular expressions are themselves.
    expect(find(pdf, "(see 1.2)", 10).total).toBe(1);
    expect(find(pdf, "(see 1x2)", 10).total).toBe(0);
    expect(find(pdf, " \n ", 10)).toEqual({ total: 0, passages: [] });
  });

  test("of a text has no boxes", async () => {
    const file = join(folder, "a.txt");
    await writeFile(file, "The ferry leaves.");
    const text = await open(file);
    expect(detailOf(text, "T")).toMatchObject({ hasLayout: false });
    expect(pageText(text, 1)).toMatchObject({ lines: [], start: 0 });
    expect(find(text, "ferry", 5).passages).toMatchObject([{ start: 4, end: 9, boxes: [] }]);
  });
});

describe("pictures of pages", () => {
  const file = () => ({ path, name: "a.pdf" });

  test("are PNGs of the asked width with dark letters where the text layer says", async () => {
    const { image, width, height, number } = await pictures.draw("a", file(), 1, 600);
    expect([number, width]).toEqual([1, 600]);
    const page = pdf.pages[0]!;
    expect(height).toBe(Math.round((600 * page.height!) / page.width!));
    const scale = 600 / page.width!;
    const [line] = pageText(pdf, 1).lines;
    const dark = (left: number, top: number, right: number, bottom: number) =>
      darkPixels(
        image,
        width,
        height,
        [left, top, right, bottom].map((at) => at * scale),
      );
    const { left, top, width: wide, height: high } = line!;
    expect(dark(left, top, left + wide, top + high)).toBeGreaterThan(100);
    expect(dark(0, 0, page.width!, top - 2)).toBe(0);
  });

  test("say which page can't be drawn, and go on", async () => {
    await expect(pictures.draw("a", file(), 9, 600)).rejects.toMatchObject({
      code: "document_bad_range",
    });
    const broken = join(folder, "broken.pdf");
    await writeFile(broken, "%PDF-1.7\nnothing more");
    await expect(
      pictures.draw("b", { path: broken, name: "broken.pdf" }, 1, 100),
    ).rejects.toMatchObject({ code: "document_broken" });
    await expect(
      pictures.draw("c", { path: join(folder, "none.pdf"), name: "none.pdf" }, 1, 100),
    ).rejects.toThrow();
    expect((await pictures.draw("a", file(), 2, 100)).width).toBe(100);
  });
});

/** Pixels darker than half in a rectangle of a PNG without filters. */
function darkPixels(png: Uint8Array, width: number, height: number, box: number[]): number {
  const bytes = Buffer.from(png);
  expect(bytes.subarray(1, 4).toString()).toBe("PNG");
  expect([bytes.readUInt32BE(16), bytes.readUInt32BE(20)]).toEqual([width, height]);
  const data = inflateSync(bytes.subarray(41, 41 + bytes.readUInt32BE(33)));
  expect(data.length).toBe(height * (1 + 3 * width));
  const [left, top, right, bottom] = box.map(Math.round) as [number, number, number, number];
  let dark = 0;
  for (let y = Math.max(0, top); y < Math.min(height, bottom); y++) {
    expect(data[y * (1 + 3 * width)]).toBe(0);
    for (let x = Math.max(0, left); x < Math.min(width, right); x++) {
      const at = y * (1 + 3 * width) + 1 + 3 * x;
      if (data[at]! + data[at + 1]! + data[at + 2]! < 384) dark++;
    }
  }
  return dark;
}
