// A process of its own that keeps one PDF open and draws its pages as they are asked for. Whatever
// the document does to it, the host lives and starts another.
import { readFile } from "node:fs/promises";
import type { PageImage } from "../../../contract/documents.ts";
import { type ErrorValue, type Result, toErrorValue } from "../../../contract/errors.ts";
import { openDocument } from "./pdf.ts";
import { openPdfium, type Pdfium } from "./pdfium.ts";
import { drawPage } from "./picture.ts";

export interface PictureTask {
  path: string;
  name: string;
  memoryBytes: number;
}
export interface PictureRequest {
  id: number;
  page: number;
  width: number;
}
export type PictureReply = { id: number; result: Result<PageImage> };

let opened: Promise<{ pdfium: Pdfium; document: number }> | null = null;

process.on("message", async (message: PictureTask | PictureRequest) => {
  if ("path" in message) {
    opened = open(message);
    // What is wrong is said with the first picture.
    opened.catch(() => {});
    return;
  }
  const { id, page, width } = message;
  let reply: PictureReply;
  try {
    if (opened === null) throw new Error("no document was named");
    const { pdfium, document } = await opened;
    reply = { id, result: { ok: true, value: drawPage(pdfium, document, page, width) } };
  } catch (thrown) {
    const error: ErrorValue = toErrorValue(thrown);
    reply = { id, result: { ok: false, error } };
  }
  process.send?.(reply);
});
// The host is gone.
process.once("disconnect", () => process.exit());

async function open({ path, name, memoryBytes }: PictureTask) {
  const bytes = await readFile(path);
  const pdfium = await openPdfium(memoryBytes);
  return { pdfium, document: openDocument(pdfium, { bytes, name, id: "" }, undefined) };
}
