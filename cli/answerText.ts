/** An answer's citations and its coverage certificate, as text. */
import type { Answer, Citation } from "../contract/answer.ts";
import { bytes, count, rate, seconds, wrap } from "./format.ts";
import type { Terminal } from "./terminal.ts";

const quoteCharacters = 200;
const width = 100;

export function citationsText(answer: Answer, terminal: Pick<Terminal, "style">): string {
  const shown = answer.citations.filter((citation) => !isSaidByQuotation(citation, answer));
  if (shown.length === 0) return "";
  const lines = shown.map((citation) => citationLine(citation, terminal));
  return `${terminal.style("bold", "Rests on")}\n${lines.join("\n")}\n`;
}

/** A passage around words that the answer quotes says nothing new. */
function isSaidByQuotation(citation: Citation, answer: Answer): boolean {
  if (citation.from !== "attention") return false;
  return answer.citations.some(
    (other) =>
      other.from === "quotation" &&
      other.start !== null &&
      other.end !== null &&
      other.start < citation.end! &&
      other.end > citation.start!,
  );
}

function citationLine(citation: Citation, terminal: Pick<Terminal, "style">): string {
  const place = citation.page === null ? "" : `p. ${citation.page}`;
  const sign = citation.verified
    ? citation.from === "quotation"
      ? terminal.style("green", "✓")
      : terminal.style("dim", "·")
    : terminal.style("red", "✗");
  const said = citation.verified
    ? citation.from === "quotation"
      ? citation.match === "exact" || citation.match === undefined
        ? "quoted"
        : "quoted, nearly"
      : "read while writing"
    : "NOT in the document";
  const quote = citation.quote.replace(/\s+/g, " ").trim();
  const short = quote.length > quoteCharacters ? `${quote.slice(0, quoteCharacters)}…` : quote;
  const indent = " ".repeat(11);
  return `${sign} ${place.padEnd(8)} ${wrap(`“${short}” (${said})`, width, indent)}`;
}

export function certificateText(answer: Answer, terminal: Pick<Terminal, "style">): string {
  const { coverage, timing } = answer;
  const whole = coverage.tokensInContext === coverage.documentTokens;
  const ofPages = `pages ${coverage.pages} of ${coverage.documentPages}`;
  const first = whole
    ? `${terminal.style("green", "✓")} ${count(coverage.tokensInContext)} of ${count(coverage.documentTokens)} tokens in context, ${ofPages}; nothing was cut.`
    : `${terminal.style("red", "✗")} Only ${count(coverage.tokensInContext)} of ${count(coverage.documentTokens)} tokens in context (${ofPages}).`;
  const without = coverage.pagesWithoutText.length;
  const holes =
    without === 0
      ? []
      : [
          `  ${without === 1 ? "Page" : "Pages"} without text: ${coverage.pagesWithoutText.join(", ")}.`,
        ];
  return [
    first,
    ...holes,
    `  ${readingText(answer)}`,
    `  ${prefillText(timing)}`,
    `  ${decodeText(timing)}`,
    `  ${answer.model.name} on ${answer.model.device}.`,
    "",
  ].join("\n");
}

function readingText({ coverage }: Answer): string {
  const read = coverage.kvBytesPerToken + coverage.digestBytesPerToken;
  const share = coverage.denseBytesPerToken > 0 ? (100 * read) / coverage.denseBytesPerToken : 100;
  const perToken =
    coverage.denseBytesPerToken > 0
      ? `${bytes(read)} read per token (${share.toFixed(share < 10 ? 1 : 0)} % of dense ${bytes(coverage.denseBytesPerToken)})`
      : "no decode step was needed";
  return coverage.mode === "dense"
    ? `Dense: every token read at every step; ${perToken}.`
    : `AB-Sparse, ${count(coverage.budgetTokens ?? 0)} tokens per head (${coverage.profile}); ${perToken}.`;
}

function prefillText(timing: Answer["timing"]): string {
  const computed =
    timing.prefillTokens === 0
      ? "Read before"
      : `Read ${count(timing.prefillTokens)} tokens in ${seconds(timing.prefillSeconds)} (${rate(timing.prefillTokensPerSecond)}/s)`;
  const cached: string[] = [];
  if (timing.cachedInMemory > 0) cached.push(`${count(timing.cachedInMemory)} from memory`);
  if (timing.cachedOnDisk > 0) cached.push(`${count(timing.cachedOnDisk)} from disk`);
  return `${[computed, ...cached].join("; ")}.`;
}

function decodeText(timing: Answer["timing"]): string {
  return `Answer of ${count(timing.decodeTokens)} tokens at ${rate(timing.decodeTokensPerSecond)}/s, depth ${count(timing.depth)}; first token after ${seconds(timing.firstTokenSeconds)}.`;
}
