/** Pieces of a prompt as tokens, with the place in the document of every token. */
import type { Piece } from "./prompt.ts";

/** What the engine does with text. */
export interface Tokenizer {
  tokenize(text: string, parseSpecial: boolean): Promise<Int32Array>;
  detokenize(tokens: Int32Array): Promise<string>;
}

/** Tokens of a prompt's segment. Where a token is of the document, `start` and `end` are the
 * characters [start, end) of its text that it stands for; elsewhere both are -1. Tokens that share a
 * character (a letter of several bytes) have the same place. */
export interface TokenizedSegment {
  tokens: Int32Array;
  /** [tokens] */
  start: Int32Array;
  /** [tokens] */
  end: Int32Array;
  /** How many of the tokens are the document's. */
  documentTokens: number;
}

/** @param bos the beginning-of-text token, where the model wants one and the template gives none. */
export async function tokenizeSegment(
  tokenizer: Tokenizer,
  pieces: Piece[],
  bos?: number,
): Promise<TokenizedSegment> {
  const pieceOf = tokenTexts(tokenizer);
  const parts: { tokens: Int32Array; start: Int32Array; end: Int32Array }[] = [];
  if (bos !== undefined) parts.push(withoutPlace(Int32Array.of(bos)));
  let documentTokens = 0;
  for (const piece of pieces) {
    const tokens = await tokenizer.tokenize(piece.text, piece.part === "frame");
    if (piece.part === "document") {
      const { start, end } = await placeTokens(piece.text, tokens, pieceOf, tokenizer);
      const offset = piece.start ?? 0;
      parts.push({
        tokens,
        start: start.map((at) => at + offset),
        end: end.map((at) => at + offset),
      });
      documentTokens += tokens.length;
    } else {
      parts.push(withoutPlace(tokens));
    }
  }
  return {
    tokens: concat(parts.map((part) => part.tokens)),
    start: concat(parts.map((part) => part.start)),
    end: concat(parts.map((part) => part.end)),
    documentTokens,
  };
}

function withoutPlace(tokens: Int32Array) {
  const nowhere = new Int32Array(tokens.length).fill(-1);
  return { tokens, start: nowhere, end: nowhere };
}

/** The text of single tokens, remembered: a document has few different ones. */
function tokenTexts(tokenizer: Tokenizer): (token: number) => Promise<string> {
  const known = new Map<number, string>();
  return async (token) => {
    let text = known.get(token);
    if (text === undefined) {
      text = await tokenizer.detokenize(Int32Array.of(token));
      known.set(token, text);
    }
    return text;
  };
}

/** A letter takes at most four bytes, and a token at least one; some tokenizers go further. */
const mostTokensPerLetter = 16;

/** Characters [start, end) of the text that each token stands for. The tokens' own texts are laid
 * along the text: exact for every tokenizer that gives its input back. */
async function placeTokens(
  text: string,
  tokens: Int32Array,
  pieceOf: (token: number) => Promise<string>,
  tokenizer: Tokenizer,
): Promise<{ start: Int32Array; end: Int32Array }> {
  const start = new Int32Array(tokens.length);
  const end = new Int32Array(tokens.length);
  let at = 0;
  for (let index = 0; index < tokens.length; ) {
    const piece = await pieceOf(tokens[index]!);
    let count = 1;
    let length = matchLength(text, at, piece);
    // Part of a letter, or of one that is not there: see what it makes with the tokens after it.
    if (length === null || piece.includes("\ufffd")) {
      const letter = await matchSeveral(text, at, tokens.subarray(index), tokenizer);
      count = letter?.count ?? 1;
      length = letter?.length ?? null;
    }
    // The text does not come back as it went in: the token keeps its place in the row, and the next
    // one that fits goes on from there.
    const upTo = Math.min(text.length, at + (length ?? 0));
    start.fill(at, index, index + count);
    end.fill(upTo, index, index + count);
    at = upTo;
    index += count;
    if (length === null) at = resume(text, at, await nextPiece(tokens, index, pieceOf));
  }
  return { start, end };
}

/** How far the piece reaches into the text at this place; null when it is not there. */
function matchLength(text: string, at: number, piece: string): number | null {
  if (text.startsWith(piece, at)) return piece.length;
  // Some vocabularies put a space before the text.
  if (at === 0 && piece.startsWith(" ") && text.startsWith(piece.slice(1))) return piece.length - 1;
  return null;
}

async function matchSeveral(
  text: string,
  at: number,
  tokens: Int32Array,
  tokenizer: Tokenizer,
): Promise<{ count: number; length: number } | null> {
  let found: { count: number; length: number } | null = null;
  for (let count = 1; count <= Math.min(mostTokensPerLetter, tokens.length); count++) {
    const joined = await tokenizer.detokenize(tokens.slice(0, count));
    const length = matchLength(text, at, joined);
    if (length === null) {
      if (found !== null) return found;
      continue;
    }
    if (!joined.includes("\ufffd")) return { count, length };
    // A replacement character of the text itself, or the beginning of its bytes: take all of them.
    if (found !== null && length > found.length) return found;
    found = { count, length };
  }
  return found;
}

/** Looks a little ahead for the next token's text. */
function resume(text: string, at: number, piece: string): number {
  if (piece.trim() === "" || piece.includes("\ufffd")) return at;
  const found = text.indexOf(piece, at);
  return found >= 0 && found - at <= 64 ? found : at;
}

async function nextPiece(
  tokens: Int32Array,
  index: number,
  pieceOf: (token: number) => Promise<string>,
): Promise<string> {
  return index < tokens.length ? pieceOf(tokens[index]!) : "";
}

function concat(arrays: Int32Array[]): Int32Array {
  const joined = new Int32Array(arrays.reduce((length, array) => length + array.length, 0));
  let at = 0;
  for (const array of arrays) {
    joined.set(array, at);
    at += array.length;
  }
  return joined;
}
