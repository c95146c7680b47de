/** Words that an answer gives as the document's own. */
export interface Quotation {
  /** The quoted words without their marks. */
  text: string;
  /** Where the quotation stands in the answer, marks included, end exclusive. */
  start: number;
  end: number;
  /** In quotation marks, as a Markdown block quote, or as code that reads like a passage. */
  style: "marks" | "block" | "code";
}

/** The quotations in an answer, in order, none inside another. Left alone: apostrophes, inch marks,
 * code, and marks that are not closed in their paragraph. */
export function findQuotations(answer: string): Quotation[] {
  const found: Quotation[] = [];
  // What is taken is blanked, so that its marks don't pair with others.
  let rest = answer;
  const take = (quotation: Quotation | undefined, start: number, end: number): void => {
    if (quotation) found.push(quotation);
    rest = rest.slice(0, start) + " ".repeat(end - start) + rest.slice(end);
  };
  for (const match of answer.matchAll(fencedBlock)) {
    const end = match.index + match[0].length;
    take(passage(match[1] ?? "", match.index, end), match.index, end);
  }
  for (const match of rest.matchAll(quotedLines)) {
    const end = match.index + match[0].length;
    take(blockQuote(match[0], match.index, end), match.index, end);
  }
  for (const match of rest.matchAll(inlineCode)) {
    const end = match.index + match[0].length;
    take(passage(match[2] ?? "", match.index, end), match.index, end);
  }
  for (const { index, 0: paragraph } of rest.matchAll(paragraphs)) {
    found.push(...markedQuotations(paragraph, index));
  }
  return found.sort((a, b) => a.start - b.start);
}

const fencedBlock = /^ {0,3}(?:```|~~~)[^\n]*\n([\s\S]*?)^ {0,3}(?:```|~~~)[ \t]*$/gm;
const quotedLines = /^(?: {0,3}>[^\n]*(?:\n|$))+/gm;
const inlineCode = /(?<!`)(`{1,2})(?!`)([^`]+)\1(?!`)/g;
const paragraphs = /(?:[^\n]+(?:\n(?![ \t]*(?:\n|$)))?)+/g;

/** Code that is rather words of the document than a name or a command. */
function passage(code: string, start: number, end: number): Quotation | undefined {
  const text = code.trim();
  const words = text.split(/\s+/).length;
  const visible = text.replace(/\s+/g, "");
  const letters = visible.match(/[\p{L}\p{M}]/gu)?.length ?? 0;
  if (words < 5 || letters < 0.8 * visible.length) return undefined;
  return { text, start, end, style: "code" };
}

function blockQuote(block: string, start: number, end: number): Quotation | undefined {
  const lines = block.split("\n").map((line) => line.replace(/^\s*(?:>\s?)+/, ""));
  let text = lines.join("\n").trim();
  // A last line such as “— Section 3, page 12” or a page in brackets names the source.
  text = text.replace(/\n\s*(?:[—–]|--)[^\n]{0,120}$/, "").replace(sourceInBrackets, "");
  const marked = markedQuotations(text, 0);
  const inMarks = marked.reduce((sum, quotation) => sum + quotation.end - quotation.start, 0);
  const only = marked[0];
  if (marked.length === 1 && only && inMarks >= 0.6 * text.length) text = only.text;
  if (!/[\p{L}\p{N}]/u.test(text)) return undefined;
  return {
    text: text.trim(),
    start,
    end: end - (/\n$/.exec(block)?.[0].length ?? 0),
    style: "block",
  };
}

const sourceInBrackets =
  /\s*[([](?:p|pp|page|pages|section|chapter|§)\.?\s*[^()[\]\n]{1,40}[)\]]\.?\s*$/i;

/** For each opening mark the closing marks it may have; what else must hold is in `opens` and
 * `closes`. */
const closingMarks: Record<string, string> = {
  "“": "”“",
  "„": '“”"',
  "‟": "”",
  "«": "»",
  "»": "«",
  "「": "」",
  "『": "』",
  '"': '"',
  "‘": "’",
  "‚": "‘’",
  "'": "'",
};
const singleMarks = "‘‚'";
const longestQuotation = 8000;

function markedQuotations(paragraph: string, offset: number): Quotation[] {
  const found: Quotation[] = [];
  for (let at = 0; at < paragraph.length; at++) {
    if (!closingMarks[paragraph[at]!] || !opens(paragraph, at)) continue;
    const end = closingMark(paragraph, at);
    if (end === undefined) continue;
    const text = paragraph.slice(at + 1, end).trim();
    if (/[\p{L}\p{N}]/u.test(text)) {
      found.push({ text, start: offset + at, end: offset + end + 1, style: "marks" });
    }
    at = end;
  }
  return found;
}

const isWord = (character: string | undefined): boolean =>
  character !== undefined && /[\p{L}\p{N}]/u.test(character);
const isBlank = (character: string | undefined): boolean =>
  character === undefined || /\s/.test(character);

/** An opening mark has something right behind it; one that may also close or be an apostrophe has
 * no letter or digit before it. */
function opens(text: string, at: number): boolean {
  const mark = text[at]!;
  if (isBlank(text[at + 1])) return mark === "«";
  return !`"'»‘“`.includes(mark) || !isWord(text[at - 1]);
}

function closingMark(text: string, open: number): number | undefined {
  const mark = text[open]!;
  const closers = closingMarks[mark]!;
  const single = singleMarks.includes(mark);
  const last = Math.min(text.length, open + 1 + longestQuotation);
  let depth = 0;
  let candidate: number | undefined;
  for (let at = open + 1; at < last; at++) {
    const character = text[at]!;
    if (mark === "“" && character === "“" && !isBlank(text[at + 1]) && !isWord(text[at - 1]))
      depth++;
    else if (closers.includes(character) && closes(text, at, single)) {
      if (depth > 0) depth--;
      else if (!single) return at;
      else if (endsClause(text, at)) return enoughWords(text, open, at) ? at : undefined;
      else candidate ??= at;
    }
  }
  return candidate !== undefined && enoughWords(text, open, candidate) ? candidate : undefined;
}

/** A mark closes when something stands right before it; a straight or single one when no word goes
 * on behind it. */
function closes(text: string, at: number, single: boolean): boolean {
  if (isBlank(text[at - 1]) && text[at] !== "»") return false;
  return !(single || text[at] === '"') || !isWord(text[at + 1]);
}

/** Whether a single mark ends a quotation rather than a plural's possessive. */
const endsClause = (text: string, at: number): boolean =>
  /[.,;:!?)\]\n]/.test(text[at + 1] ?? "\n") || /[.,;:!?]/.test(text[at - 1] ?? "");

/** Single marks also stand around single words that are named, not quoted. */
const enoughWords = (text: string, open: number, close: number): boolean =>
  text
    .slice(open + 1, close)
    .trim()
    .split(/\s+/).length >= 3;
