import type { Pdfium } from "./pdfium.ts";

/** Annotation subtypes of fpdf_annot.h whose appearance holds words that a person sees on the page:
 * text typed onto it, stamps, fields of a form. */
const withWords = new Set([3, 13, 20]);

// fpdf_flatten.h: as shown on a screen; fpdf_formfill.h: a form drawn by a program of its own.
const normalDisplay = 0;
const xfaForm = 2;

/** Opens a page with what its annotations show made part of it, so that the values of a filled-in
 * form are read like any text. 0 when it can't be opened. */
export function loadPage(pdfium: Pdfium, document: number, index: number): number {
  const page = pdfium.FPDF_LoadPage(document, index);
  if (page === 0 || !hasWordsInAnnotations(pdfium, page)) return page;
  pdfium.FPDFPage_Flatten(page, normalDisplay);
  pdfium.FPDF_ClosePage(page);
  return pdfium.FPDF_LoadPage(document, index);
}

function hasWordsInAnnotations(pdfium: Pdfium, page: number): boolean {
  const count = pdfium.FPDFPage_GetAnnotCount(page);
  for (let index = 0; index < count; index++) {
    const annotation = pdfium.FPDFPage_GetAnnot(page, index);
    if (annotation === 0) continue;
    const found = withWords.has(pdfium.FPDFAnnot_GetSubtype(annotation));
    pdfium.FPDFPage_CloseAnnot(annotation);
    if (found) return true;
  }
  return false;
}

/** Whether the pages only stand in for a form that Adobe's programs draw (XFA). */
export const isXfaForm = (pdfium: Pdfium, document: number): boolean =>
  pdfium.FPDF_GetFormType(document) === xfaForm;
