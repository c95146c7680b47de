import { ScholiaError } from "../../../contract/errors.ts";
import type { DocumentContent, Page } from "../document.ts";
import { checkSize, type ParseContext, type Parser, type Source } from "../parser.ts";
import { type PageEvidence, pageStatus, summarise } from "../report.ts";
import { isXfaForm, loadPage } from "./annotations.ts";
import { resolveHyphens } from "./hyphens.ts";
import { readOutline } from "./outline.ts";
import { pageGeometry, readPageText } from "./pageText.ts";
import { openPdfium, type Pdfium } from "./pdfium.ts";
import { pictureShare } from "./pictures.ts";
import { TextCollector } from "./textCollector.ts";

/** PDF by PDFium: text in the order in which PDFium gives it, repeated headers and footers kept. */
export const pdfParser: Parser = { kind: "pdf", parse: parsePdf };

async function parsePdf(source: Source, context: ParseContext): Promise<DocumentContent> {
  const pdfium = await openPdfium(context.limits.memoryBytes);
  try {
    const document = openDocument(pdfium, source, context.password);
    const content = readPages(pdfium, document, source, context);
    checkMemory(pdfium, context, source.name);
    return content;
  } catch (error) {
    checkMemory(pdfium, context, source.name);
    if (error instanceof ScholiaError) throw error;
    // A trap in the WebAssembly code: this document has led PDFium where it should not go.
    const message = `${source.name} is damaged in a way that stops the PDF reader. Print it to a new PDF, or get it again.`;
    throw new ScholiaError("document_broken", message);
  }
}

function checkMemory(pdfium: Pdfium, context: ParseContext, name: string): void {
  if (!pdfium.memoryExceeded()) return;
  const megabytes = Math.round(context.limits.memoryBytes / 2 ** 20);
  const message = `Reading ${name} takes more than ${megabytes} MB of memory and was stopped. Split the file, or print it to a new PDF.`;
  throw new ScholiaError("document_too_large", message);
}

// fpdfview.h, FPDF_ERR_*.
const wrongPassword = 4;
const unknownSecurity = 5;

/** @returns PDFium's handle
 * @throws ScholiaError `document_encrypted`, `document_broken` */
export function openDocument(pdfium: Pdfium, source: Source, password: string | undefined): number {
  const data = pdfium.store(source.bytes);
  const secret = pdfium.store(Buffer.from(`${password ?? ""}\0`));
  const document = pdfium.FPDF_LoadMemDocument(data, source.bytes.length, secret);
  if (document !== 0) return document;
  const error = pdfium.FPDF_GetLastError();
  if (error === wrongPassword) {
    const message = password
      ? `The password does not open ${source.name}.`
      : `${source.name} is encrypted and needs a password. Save it without one, or give the password.`;
    throw new ScholiaError("document_encrypted", message);
  }
  if (error === unknownSecurity) {
    const message = `${source.name} is encrypted in a way that can't be opened here. Save it without encryption.`;
    throw new ScholiaError("document_encrypted", message);
  }
  const message = `${source.name} is a damaged PDF: nothing in it can be opened. Try to get the file again.`;
  throw new ScholiaError("document_broken", message);
}

function readPages(
  pdfium: Pdfium,
  document: number,
  source: Source,
  context: ParseContext,
): DocumentContent {
  const count = pdfium.FPDF_GetPageCount(document);
  checkSize("pages", count, context, source.name);
  if (count === 0) {
    const message = `${source.name} is a PDF without pages: it is damaged or cut short. Try to get the file again.`;
    throw new ScholiaError("document_broken", message);
  }
  const collector = new TextCollector();
  const breaks: number[] = [];
  const pages: Page[] = [];
  for (let index = 0; index < count; index++) {
    pages.push(readPage(pdfium, document, index, collector, breaks));
    checkSize("characters", collector.length, context, source.name);
    checkMemory(pdfium, context, source.name);
    context.onPage(index + 1, count);
  }
  const { text, boxes, pageStarts } = resolveHyphens(collector.finish(), breaks);
  pages.forEach((page, index) => {
    page.start = pageStarts[index]!;
    page.end = pageStarts[index + 1]!;
  });
  const content: DocumentContent = {
    id: source.id,
    name: source.name,
    kind: "pdf",
    text,
    pages,
    boxes,
    outline: readOutline(pdfium, document, count),
    report: { ...summarise(pages), notes: documentNotes(pdfium, document) },
  };
  const title = readTitle(pdfium, document);
  if (title) content.title = title;
  return content;
}

/** Adds a page's text to the collector, ended by an empty line so that pages stay apart. The page's
 * range is set when all hyphens are resolved. */
function readPage(
  pdfium: Pdfium,
  document: number,
  index: number,
  collector: TextCollector,
  breaks: number[],
): Page {
  collector.beginPage();
  const start = collector.length;
  const label = pdfium.string((buffer, bytes) =>
    pdfium.FPDF_GetPageLabel(document, index, buffer, bytes),
  );
  const page: Page = {
    number: index + 1,
    label: label.trim() || String(index + 1),
    start,
    end: start,
    status: "broken",
  };
  const handle = loadPage(pdfium, document, index);
  if (handle === 0) return page;
  page.width = pdfium.FPDF_GetPageWidthF(handle);
  page.height = pdfium.FPDF_GetPageHeightF(handle);
  const geometry = pageGeometry(pdfium, handle);
  const evidence: PageEvidence = readPageText(pdfium, handle, geometry, collector, breaks);
  const text = collector.textFrom(start);
  if (pageStatus(text, { pictureShare: 1 }) === "scanned") {
    evidence.pictureShare = pictureShare(pdfium, handle, geometry);
  }
  page.status = pageStatus(text, evidence);
  pdfium.FPDF_ClosePage(handle);
  if (collector.length > start) {
    collector.push(10);
    collector.push(10);
  }
  return page;
}

function readTitle(pdfium: Pdfium, document: number): string {
  const tag = pdfium.store(Buffer.from("Title\0"));
  const title = pdfium.string((buffer, bytes) =>
    pdfium.FPDF_GetMetaText(document, tag, buffer, bytes),
  );
  pdfium.free(tag);
  return title.replace(/\s+/g, " ").trim();
}

function documentNotes(pdfium: Pdfium, document: number): string[] {
  const notes: string[] = [];
  if (!pdfium.FPDF_DocumentHasValidCrossReferenceTable(document)) {
    notes.push(
      "The file is damaged or cut short: its table of contents (cross-reference table) was rebuilt, and pages may be missing.",
    );
  }
  if (isXfaForm(pdfium, document)) {
    notes.push(
      "The file is an XFA form: its pages are a placeholder, and what Adobe's programs show is not read. Print it to a PDF there.",
    );
  }
  return notes;
}
