import type { DocumentKind } from "./document.ts";
import type { Parser } from "./parser.ts";

/** The parser of each kind, loaded when it is needed: a text has no use for PDFium. */
export const parsers: Record<DocumentKind, () => Promise<Parser>> = {
  pdf: async () => (await import("./pdf/pdf.ts")).pdfParser,
  markdown: async () => (await import("./markdown.ts")).markdownParser,
  text: async () => (await import("./text.ts")).textParser,
};
