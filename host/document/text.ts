import type { DocumentContent, DocumentKind } from "./document.ts";
import { decodeText } from "./encoding.ts";
import { type Heading, outlineOf, paginate } from "./paginate.ts";
import { checkSize, type ParseContext, type Parser, type Source } from "./parser.ts";
import { summarise } from "./report.ts";

export const textParser: Parser = {
  kind: "text",
  parse: async (source, context) => parseText(source, context, "text", underlinedHeadings),
};

/** The content of a text file whose headings `findHeadings` knows.
 * Errors: `document_binary`, `document_too_large`. */
export function parseText(
  source: Source,
  context: ParseContext,
  kind: DocumentKind,
  findHeadings: (text: string) => Heading[],
): DocumentContent {
  // No encoding takes more than four bytes for a UTF-16 unit.
  checkSize("characters", Math.ceil(source.bytes.length / 4), context, source.name);
  const { text, encoding, notes } = decodeText(source.bytes, source.name);
  checkSize("characters", text.length, context, source.name);
  const headings = findHeadings(text);
  const pages = paginate(text, headings);
  checkSize("pages", pages.length, context, source.name);
  context.onPage(pages.length, pages.length);
  const content: DocumentContent = {
    id: source.id,
    name: source.name,
    kind,
    text,
    pages,
    outline: outlineOf(headings, pages),
    report: { ...summarise(pages), notes, encoding },
  };
  const title = headings.find((heading) => heading.level === 1)?.title;
  if (title) content.title = title;
  return content;
}

/** Headings of plain text: a line with a line of one punctuation mark below it, at least about as
 * long (as in reStructuredText and many manuals). The depth follows the order in which the marks
 * first occur. */
function underlinedHeadings(text: string): Heading[] {
  const levels = new Map<string, number>();
  const headings: Heading[] = [];
  const underlined = /^([^\n]*[\p{L}\p{N}][^\n]*)\n([=\-~*^#+_"'`])\2{2,}[ \t]*$/gmu;
  for (const match of text.matchAll(underlined)) {
    const [all, line, mark] = match as unknown as [string, string, string];
    const title = line.trim();
    const rule = all.length - line.length - 1;
    if (title.length > 120 || rule < title.length - 2) continue;
    if (!levels.has(mark)) levels.set(mark, levels.size + 1);
    headings.push({ offset: match.index, level: levels.get(mark)!, title });
  }
  return headings;
}
