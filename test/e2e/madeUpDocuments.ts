// Documents that nobody wrote, for tests and measurements.
import { madeUpText, plant } from "../../host/tokens/madeUpText.ts";
import { type PdfPage, writePdf } from "../fixtures/documents/pdfWriter.ts";

/** Made-up prose with sentences planted at even depths. */
export function textWith(sentences: string[], words: number, seed = 1): string {
  return plant(madeUpText(words, seed), sentences).text;
}

/** A PDF of these texts, one a page. */
export function pdfOf(texts: string[]): Buffer {
  return writePdf(
    texts.map((text): PdfPage => ({ lines: text.replace(/\s+/g, " ").match(/.{1,80}(?:\s|$)/g)! })),
  );
}
