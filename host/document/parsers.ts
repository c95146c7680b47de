import type { DocumentKind } from "./document.ts";
import { markdownParser } from "./markdown.ts";
import type { Parser } from "./parser.ts";
import { pdfParser } from "./pdf/pdf.ts";
import { textParser } from "./text.ts";

export const parsers: Record<DocumentKind, Parser> = {
  pdf: pdfParser,
  markdown: markdownParser,
  text: textParser,
};
