import type { PageEvidence } from "../report.ts";
import type { Pdfium } from "./pdfium.ts";
import type { TextCollector } from "./textCollector.ts";

/** Maps PDF user space to shares of the page as shown (turned, cut to its crop box, from the top
 * left): `x' = a·x + c·y + e`, `y' = b·x + d·y + f`. */
export interface PageGeometry {
  a: number;
  b: number;
  c: number;
  d: number;
  e: number;
  f: number;
}

// PDFium's device coordinates are whole numbers: with a device of a million units and points a
// thousand apart, the map is exact to 1e-9 of the page per point.
const device = 1_000_000;
const apart = 1000;

export function pageGeometry(pdfium: Pdfium, page: number): PageGeometry {
  const out = pdfium.malloc(8);
  const map = (x: number, y: number): [number, number] => {
    pdfium.FPDF_PageToDevice(page, 0, 0, device, device, 0, x, y, out, out + 4);
    const [deviceX, deviceY] = new Int32Array(pdfium.memory.buffer, out, 2);
    return [deviceX! / device, deviceY! / device];
  };
  const [e, f] = map(0, 0);
  const [x1, y1] = map(apart, 0);
  const [x2, y2] = map(0, apart);
  pdfium.free(out);
  return {
    a: (x1 - e) / apart,
    b: (y1 - f) / apart,
    c: (x2 - e) / apart,
    d: (y2 - f) / apart,
    e,
    f,
  };
}

/** The corners of a rectangle of user space as shares of the page: left, top, right, bottom. */
export function shownBox(
  geometry: PageGeometry,
  left: number,
  top: number,
  right: number,
  bottom: number,
): [number, number, number, number] {
  const { a, b, c, d, e, f } = geometry;
  const x1 = a * left + c * top + e;
  const y1 = b * left + d * top + f;
  const x2 = a * right + c * bottom + e;
  const y2 = b * right + d * bottom + f;
  return [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
}

const lineFeed = 10;
const carriageReturn = 13;
const tab = 9;
const hyphenMinus = 0x2d;
const softHyphen = 0xad;
const replacement = 0xfffd;
/** PDFium's mark for a hyphen at the end of a line, with the line end taken out. */
const lineEndHyphen = 2;

/** Adds the characters of a page to the collector. A hyphen at a line's end is added as `-` and LF
 * and its offset put into `breaks`. */
export function readPageText(
  pdfium: Pdfium,
  page: number,
  geometry: PageGeometry,
  collector: TextCollector,
  breaks: number[],
): PageEvidence {
  const textPage = pdfium.FPDFText_LoadPage(page);
  if (textPage === 0) return {};
  const count = pdfium.FPDFText_CountChars(textPage);
  const boxPointer = pdfium.malloc(16);
  let unmapped = 0;
  for (let index = 0; index < count; index++) {
    let code = pdfium.FPDFText_GetUnicode(textPage, index);
    if (isHighSurrogate(code) && index + 1 < count) {
      const low = pdfium.FPDFText_GetUnicode(textPage, index + 1);
      if (isLowSurrogate(low)) {
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        index++;
      }
    }
    if (code === carriageReturn || code === lineFeed) {
      // Line ends come as CR LF.
      if (code === lineFeed || collector.lastUnit !== lineFeed) collector.push(lineFeed);
      if (code === carriageReturn && nextIsLineFeed(pdfium, textPage, index, count)) index++;
      continue;
    }
    if (pdfium.FPDFText_IsGenerated(textPage, index) === 1) {
      if (code !== 0) collector.push(cleanCodePoint(code));
      continue;
    }
    if (pdfium.FPDFText_HasUnicodeMapError(textPage, index) === 1) unmapped++;
    const atLineEnd = code === lineEndHyphen && pdfium.FPDFText_IsHyphen(textPage, index) === 1;
    if (atLineEnd) breaks.push(collector.length);
    const clean = atLineEnd ? hyphenMinus : cleanCodePoint(code);
    pdfium.FPDFText_GetLooseCharBox(textPage, index, boxPointer);
    // FS_RECTF: left, top, right, bottom. Memory may have grown since the last character.
    const box = new Float32Array(pdfium.memory.buffer, boxPointer, 4);
    collector.push(clean, ...shownBox(geometry, box[0]!, box[1]!, box[2]!, box[3]!));
    if (atLineEnd) collector.push(lineFeed);
  }
  pdfium.free(boxPointer);
  pdfium.FPDFText_ClosePage(textPage);
  return { unmapped };
}

const nextIsLineFeed = (pdfium: Pdfium, textPage: number, index: number, count: number): boolean =>
  index + 1 < count && pdfium.FPDFText_GetUnicode(textPage, index + 1) === lineFeed;

// PDFium gives a character beyond U+FFFF as its two halves.
const isHighSurrogate = (code: number): boolean => code >= 0xd800 && code <= 0xdbff;
const isLowSurrogate = (code: number): boolean => code >= 0xdc00 && code <= 0xdfff;

/** A soft hyphen that is drawn inside a line is a hyphen. What can't be a character of a text
 * becomes U+FFFD, so that it is seen and counted. */
function cleanCodePoint(code: number): number {
  if (code === softHyphen) return hyphenMinus;
  if (code < 32 && code !== tab) return replacement;
  if (isHighSurrogate(code) || isLowSurrogate(code)) return replacement;
  if (code > 0x10ffff || (code & 0xfffe) === 0xfffe) return replacement;
  return code;
}
