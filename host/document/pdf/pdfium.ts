import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { init } from "@embedpdf/pdfium";
import { isBundled, ownFile } from "../../places.ts";

/** The functions of PDFium's C interface that Scholia calls (fpdfview.h, fpdf_text.h, fpdf_doc.h,
 * fpdf_edit.h, fpdf_annot.h, fpdf_flatten.h, fpdf_formfill.h). Pointers and handles are addresses in the WebAssembly memory; 0 is none. Strings
 * come back as UTF-16LE; lengths are in bytes and count the closing zero. */
interface PdfiumFunctions {
  memory: { readonly buffer: ArrayBuffer; grow(pages: number): number };
  malloc(bytes: number): number;
  free(pointer: number): void;
  FPDF_LoadMemDocument(data: number, bytes: number, password: number): number;
  FPDF_GetLastError(): number;
  FPDF_CloseDocument(document: number): void;
  FPDF_DocumentHasValidCrossReferenceTable(document: number): number;
  FPDF_GetPageCount(document: number): number;
  FPDF_GetMetaText(document: number, tag: number, buffer: number, bytes: number): number;
  FPDF_GetPageLabel(document: number, index: number, buffer: number, bytes: number): number;
  FPDF_LoadPage(document: number, index: number): number;
  FPDF_ClosePage(page: number): void;
  FPDF_GetPageWidthF(page: number): number;
  FPDF_GetPageHeightF(page: number): number;
  FPDF_PageToDevice(
    page: number,
    startX: number,
    startY: number,
    sizeX: number,
    sizeY: number,
    rotate: number,
    pageX: number,
    pageY: number,
    deviceX: number,
    deviceY: number,
  ): number;
  FPDFBitmap_CreateEx(
    width: number,
    height: number,
    format: number,
    buffer: number,
    stride: number,
  ): number;
  FPDFBitmap_FillRect(
    bitmap: number,
    left: number,
    top: number,
    width: number,
    height: number,
    colour: number,
  ): void;
  FPDF_RenderPageBitmap(
    bitmap: number,
    page: number,
    startX: number,
    startY: number,
    sizeX: number,
    sizeY: number,
    rotate: number,
    flags: number,
  ): void;
  FPDFBitmap_GetBuffer(bitmap: number): number;
  FPDFBitmap_Destroy(bitmap: number): void;
  FPDF_GetFormType(document: number): number;
  FPDFPage_GetAnnotCount(page: number): number;
  FPDFPage_GetAnnot(page: number, index: number): number;
  FPDFPage_CloseAnnot(annotation: number): void;
  FPDFAnnot_GetSubtype(annotation: number): number;
  FPDFPage_Flatten(page: number, usage: number): number;
  FPDFText_LoadPage(page: number): number;
  FPDFText_ClosePage(textPage: number): void;
  FPDFText_CountChars(textPage: number): number;
  FPDFText_GetUnicode(textPage: number, index: number): number;
  FPDFText_IsGenerated(textPage: number, index: number): number;
  FPDFText_IsHyphen(textPage: number, index: number): number;
  FPDFText_HasUnicodeMapError(textPage: number, index: number): number;
  /** Writes left, top, right, bottom as floats. */
  FPDFText_GetLooseCharBox(textPage: number, index: number, box: number): number;
  FPDFPage_CountObjects(page: number): number;
  FPDFPage_GetObject(page: number, index: number): number;
  FPDFPageObj_GetType(object: number): number;
  FPDFPageObj_GetBounds(
    object: number,
    left: number,
    bottom: number,
    right: number,
    top: number,
  ): number;
  FPDFFormObj_CountObjects(form: number): number;
  FPDFFormObj_GetObject(form: number, index: number): number;
  FPDFBookmark_GetFirstChild(document: number, bookmark: number): number;
  FPDFBookmark_GetNextSibling(document: number, bookmark: number): number;
  FPDFBookmark_GetTitle(bookmark: number, buffer: number, bytes: number): number;
  FPDFBookmark_GetDest(document: number, bookmark: number): number;
  FPDFBookmark_GetAction(bookmark: number): number;
  FPDFAction_GetDest(document: number, action: number): number;
  FPDFDest_GetDestPageIndex(document: number, destination: number): number;
}

/** PDFium with the few conversions that calls across WebAssembly need. */
export interface Pdfium extends PdfiumFunctions {
  /** Copies bytes into PDFium's memory and gives their address. */
  store(bytes: Uint8Array): number;
  /** True once PDFium has asked for more memory than it may have. It goes on without what it could
   * not hold, so its answers are not to be trusted then. */
  memoryExceeded(): boolean;
  /** A string from a function that fills a buffer and returns the bytes it needs. */
  string(fill: (buffer: number, bytes: number) => number): string;
}

/** Page object types of fpdf_edit.h. */
export const imageObject = 3;
export const formObject = 5;

const wasmPath = (): string =>
  isBundled
    ? ownFile("host/pdfium.wasm")
    : createRequire(import.meta.url).resolve("@embedpdf/pdfium/pdfium.wasm");

const wasmPage = 65536;
const longestString = 64 * 1024;

/** A fresh PDFium whose memory does not grow beyond `memoryBytes`. It blocks its thread while it
 * works, so it lives in a worker. */
export async function openPdfium(memoryBytes: number): Promise<Pdfium> {
  // Without the binary at hand the package would fetch it from the network.
  const file = await readFile(wasmPath());
  const wasmBinary = file.buffer.slice(file.byteOffset, file.byteOffset + file.length);
  const silent = () => {};
  const module = await init({ wasmBinary, print: silent, printErr: silent } as never);
  const functions = module.pdfium.wasmExports as unknown as PdfiumFunctions;
  const memoryExceeded = limitMemory(functions.memory, memoryBytes);
  module.PDFiumExt_Init();
  return {
    ...functions,
    memoryExceeded,
    store(bytes) {
      const pointer = functions.malloc(Math.max(1, bytes.length));
      new Uint8Array(functions.memory.buffer, pointer, bytes.length).set(bytes);
      return pointer;
    },
    string(fill) {
      const bytes = Math.min(fill(0, 0), longestString);
      if (bytes <= 2) return "";
      const buffer = functions.malloc(bytes);
      fill(buffer, bytes);
      const units = Buffer.from(functions.memory.buffer, buffer, bytes);
      const text = units.toString("utf16le").replace(/\0.*$/s, "").toWellFormed();
      functions.free(buffer);
      return text;
    },
  };
}

/** The worker's own limits cover JavaScript's heap only. */
function limitMemory(memory: PdfiumFunctions["memory"], limit: number): () => boolean {
  const grow = memory.grow.bind(memory);
  let exceeded = false;
  memory.grow = (pages) => {
    // A larger step is tried first and a smaller one when it fails, so only the last refusal counts.
    exceeded = memory.buffer.byteLength + pages * wasmPage > limit;
    if (exceeded) throw new RangeError("PDFium's memory limit");
    return grow(pages);
  };
  return () => exceeded;
}
