import { type PageGeometry, shownBox } from "./pageText.ts";
import { formObject, imageObject, type Pdfium } from "./pdfium.ts";

// Enough to see whether a picture covers the page, and a bound for pages made of splinters.
const mostObjects = 2000;
const deepestForm = 4;

/** Share of the page that pictures cover, 0…1; overlapping ones count twice, up to the whole. A form
 * with a picture in it counts with the form's own bounds. */
export function pictureShare(pdfium: Pdfium, page: number, geometry: PageGeometry): number {
  const bounds = pdfium.malloc(16);
  const count = Math.min(pdfium.FPDFPage_CountObjects(page), mostObjects);
  let share = 0;
  for (let index = 0; index < count && share < 1; index++) {
    const object = pdfium.FPDFPage_GetObject(page, index);
    if (!holdsPicture(pdfium, object, 0)) continue;
    const known = pdfium.FPDFPageObj_GetBounds(object, bounds, bounds + 4, bounds + 8, bounds + 12);
    if (!known) continue;
    const [left, bottom, right, top] = new Float32Array(pdfium.memory.buffer, bounds, 4);
    share += shownArea(shownBox(geometry, left!, top!, right!, bottom!));
  }
  pdfium.free(bounds);
  return Math.min(1, share);
}

function holdsPicture(pdfium: Pdfium, object: number, depth: number): boolean {
  const type = pdfium.FPDFPageObj_GetType(object);
  if (type === imageObject) return true;
  if (type !== formObject || depth >= deepestForm) return false;
  const count = Math.min(pdfium.FPDFFormObj_CountObjects(object), mostObjects);
  for (let index = 0; index < count; index++) {
    if (holdsPicture(pdfium, pdfium.FPDFFormObj_GetObject(object, index), depth + 1)) return true;
  }
  return false;
}

const inPage = (share: number): number => Math.min(1, Math.max(0, share));

function shownArea([left, top, right, bottom]: [number, number, number, number]): number {
  return (inPage(right) - inPage(left)) * (inPage(bottom) - inPage(top));
}
