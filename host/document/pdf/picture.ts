/** Pages of a PDF as pictures. */
import type { PageImage } from "../../../contract/documents.ts";
import { ScholiaError } from "../../../contract/errors.ts";
import { loadPage } from "./annotations.ts";
import type { Pdfium } from "./pdfium.ts";
import { encodePng } from "./png.ts";

/** A page may be a thousand times as long as it is wide. */
const mostPixels = 32 * 2 ** 20;

// fpdfview.h: four bytes a pixel, blue first; FPDF_RenderPageBitmap's flags.
const bgrx = 3;
const withAnnotations = 1;
const white = 0xffffffff;

/** @param width in pixels; the height follows from the page
 * @throws ScholiaError `document_broken`, `document_bad_range` */
export function drawPage(
  pdfium: Pdfium,
  document: number,
  number: number,
  width: number,
): PageImage {
  if (number > pdfium.FPDF_GetPageCount(document)) {
    throw new ScholiaError("document_bad_range", `There is no page ${number}.`);
  }
  const page = loadPage(pdfium, document, number - 1);
  if (page === 0) {
    throw new ScholiaError("document_broken", `Page ${number} is damaged and can't be shown.`);
  }
  try {
    const ratio = pdfium.FPDF_GetPageHeightF(page) / pdfium.FPDF_GetPageWidthF(page);
    const height = Math.max(1, Math.round(width * ratio));
    if (!(width * height <= mostPixels)) {
      throw new ScholiaError("document_too_large", `Page ${number} is too large to be shown.`);
    }
    const bitmap = pdfium.FPDFBitmap_CreateEx(width, height, bgrx, 0, 0);
    if (bitmap === 0) {
      throw new ScholiaError("document_too_large", `Page ${number} is too large to be shown.`);
    }
    pdfium.FPDFBitmap_FillRect(bitmap, 0, 0, width, height, white);
    pdfium.FPDF_RenderPageBitmap(bitmap, page, 0, 0, width, height, 0, withAnnotations);
    const rows = new Uint8Array(
      pdfium.memory.buffer,
      pdfium.FPDFBitmap_GetBuffer(bitmap),
      width * height * 4,
    );
    const image = encodePng(rows, width, height);
    pdfium.FPDFBitmap_Destroy(bitmap);
    return { number, image, width, height };
  } finally {
    pdfium.FPDF_ClosePage(page);
  }
}
