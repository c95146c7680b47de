import MarkdownIt from "markdown-it";
import type { Heading } from "./paginate.ts";
import type { Parser } from "./parser.ts";
import { parseText } from "./text.ts";

/** Markdown is read as it is written: marks and links are part of the text. */
export const markdownParser: Parser = {
  kind: "markdown",
  parse: async (source, context) => parseText(source, context, "markdown", markdownHeadings),
};

/** Headings by the rules of CommonMark, so that a `#` inside a code block is none. */
function markdownHeadings(text: string): Heading[] {
  const parser = new MarkdownIt("commonmark").disable("inline");
  const body = frontMatterLength(text);
  const lines = lineStarts(text, body);
  const tokens = parser.parse(text.slice(body), {});
  const headings: Heading[] = [];
  tokens.forEach((token, index) => {
    const line = token.map?.[0];
    if (token.type !== "heading_open" || line === undefined) return;
    const title = plainTitle(tokens[index + 1]?.content ?? "");
    if (!title) return;
    headings.push({ offset: lines[line] ?? text.length, level: Number(token.tag.slice(1)), title });
  });
  return headings;
}

/** YAML between two lines of `---` at the very start: to CommonMark it would look like a heading. */
function frontMatterLength(text: string): number {
  return (
    /^---\n(?=[\w"'-]+ *:)(?:[^\n]*\n)*?(?:---|\.\.\.)[ \t]*(?:\n|$)/.exec(text)?.[0].length ?? 0
  );
}

function lineStarts(text: string, from: number): number[] {
  const starts = [from];
  for (let at = text.indexOf("\n", from); at !== -1; at = text.indexOf("\n", at + 1)) {
    starts.push(at + 1);
  }
  return starts;
}

/** A heading's words without emphasis, code marks and the targets of links. */
function plainTitle(source: string): string {
  return source
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/[*`]|(?<![\p{L}\p{N}])_|_(?![\p{L}\p{N}])/gu, "")
    .replace(/\s+/g, " ")
    .trim();
}
