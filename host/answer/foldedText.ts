/** A text reduced to what a faithful quotation keeps, with the way back to the original.
 *
 * Left out: white space, quotation marks and apostrophes, dashes and hyphens (so that a word broken
 * at a line's end equals the whole word), emphasis marks, invisible characters, accents. Changed:
 * compatibility forms (NFKC: ligatures, full-width letters, …) and capitals. Kept where they carry
 * meaning: a dash before a digit (−5, 10–20), a space between digits, `_` and `*` inside a formula. */
export interface FoldedText {
  folded: string;
  /** For each UTF-16 unit of `folded` the offset of its character in the original text; rising. */
  offsets: Uint32Array;
}

export interface FoldOptions {
  /** Leave out the brackets and targets of Markdown links. */
  markdown?: boolean;
}

const longestLinkTarget = 2000;

export function foldText(text: string, options: FoldOptions = {}): FoldedText {
  const output = new FoldedOutput(text.length);
  let gap = false;
  for (let at = 0; at < text.length; ) {
    const code = text.charCodeAt(at);
    if (code < 128) {
      const unit = foldAscii(text, at, code, options);
      if (unit === space) gap = true;
      else if (unit !== leftOut) {
        output.push(unit, at, gap);
        gap = false;
      }
      at = options.markdown ? afterMarkdownMark(text, at) : at + 1;
      continue;
    }
    const end = clusterEnd(text, at);
    const folded = foldCluster(text.slice(at, end));
    if (folded === " ") gap = true;
    else if (folded !== "-" || isDigit(text.charCodeAt(end))) {
      for (let i = 0; i < folded.length; i++) {
        output.push(folded.charCodeAt(i), at, gap);
        gap = false;
      }
    }
    at = end;
  }
  return output.finish();
}

/** End of the character at `offset` with the marks that combine with it. */
export function clusterEnd(text: string, offset: number): number {
  const first = text.codePointAt(offset);
  if (first === undefined) return offset;
  let end = offset + (first > 0xffff ? 2 : 1);
  // ASCII before ASCII, the common case, needs no look at what combines.
  while (end < text.length && text.charCodeAt(end) >= 0x300) {
    const next = text.codePointAt(end)!;
    if (!isCombining(next)) break;
    end += next > 0xffff ? 2 : 1;
  }
  return end;
}

const space = 0x20;
const dash = 0x2d;
/** Stand in `foldedAscii` for characters that are left out, and for `*` and `_`. */
const leftOut = 0;
const emphasis = 1;

const foldedAscii = Uint8Array.from({ length: 128 }, (_, code) => {
  if (code <= 32 || code === 127) return space;
  const character = String.fromCharCode(code);
  if (`"'\``.includes(character)) return leftOut;
  if ("*_".includes(character)) return emphasis;
  return character.toLowerCase().charCodeAt(0);
});

function foldAscii(text: string, at: number, code: number, options: FoldOptions): number {
  const unit = foldedAscii[code]!;
  if (unit === dash) return isDigit(text.charCodeAt(at + 1)) ? dash : leftOut;
  if (unit === emphasis) return joinsFormula(text, at) ? code : leftOut;
  if (options.markdown && (text[at] === "[" || text[at] === "]")) return leftOut;
  return unit;
}

const isDigit = (code: number): boolean => code >= 48 && code <= 57;

const joinsFormula = (text: string, at: number): boolean =>
  isDigit(text.charCodeAt(at + 1)) && /[A-Za-z0-9]/.test(text.charAt(at - 1));

/** The offset after an ASCII character, or after the target of a link that it closes. */
function afterMarkdownMark(text: string, at: number): number {
  if (text[at] !== "]" || text[at + 1] !== "(") return at + 1;
  const target = /^\([^()\n]*(?:\([^()\n]*\)[^()\n]*)*\)/.exec(
    text.slice(at + 1, at + 1 + longestLinkTarget),
  );
  return at + 1 + (target?.[0].length ?? 0);
}

const foldedClusters = new Map<string, string>();
const mostClustersKept = 20_000;

/** A character and its marks folded; `" "` for white space, `"-"` for a dash, `""` for what is left
 * out. */
function foldCluster(cluster: string): string {
  const known = foldedClusters.get(cluster);
  if (known !== undefined) return known;
  const folded = computeFold(cluster);
  if (foldedClusters.size >= mostClustersKept) foldedClusters.clear();
  foldedClusters.set(cluster, folded);
  return folded;
}

function computeFold(cluster: string): string {
  if (/^\p{White_Space}/u.test(cluster)) return " ";
  if (/^\p{Default_Ignorable_Code_Point}/u.test(cluster)) return "";
  if (/^[\p{Pd}\u2212]/u.test(cluster)) return "-";
  const plain = cluster
    .normalize("NFKD")
    .replace(/[\u0300-\u036f]/g, "")
    .normalize("NFKC")
    .toLowerCase()
    .replace(/[\u0300-\u036f]/g, "");
  return plain.replace(quotationMarks, "").replaceAll("ς", "σ").replaceAll("\u2044", "/");
}

/** Unicode's quotation marks, and what is used in their place; spaces that NFKD gives for accents
 * that stand alone. */
const quotationMarks = /[\p{Pi}\p{Pf}"'`„‚′″‟〝〞〟「」『』\s]/gu;

/** Marks, and the vowels and finals of Hangul in single letters. */
const isCombining = (codePoint: number): boolean =>
  (codePoint >= 0x1160 && codePoint <= 0x11ff) || /\p{M}/u.test(String.fromCodePoint(codePoint));

/** Arrays that grow: folding may lengthen a text (ﬃ → ffi). */
class FoldedOutput {
  #units: Uint16Array;
  #offsets: Uint32Array;
  #length = 0;

  constructor(expected: number) {
    this.#units = new Uint16Array(expected + 16);
    this.#offsets = new Uint32Array(expected + 16);
  }

  push(unit: number, offset: number, afterGap: boolean): void {
    const last = this.#length > 0 ? this.#units[this.#length - 1]! : 0;
    if (afterGap && isDigit(unit) && isDigit(last)) this.#put(space, offset);
    this.#put(unit, offset);
  }

  finish(): FoldedText {
    const units = this.#units.subarray(0, this.#length);
    const bytes = Buffer.from(units.buffer, 0, units.byteLength);
    return { folded: bytes.toString("utf16le"), offsets: this.#offsets.slice(0, this.#length) };
  }

  #put(unit: number, offset: number): void {
    if (this.#length === this.#units.length) {
      const units = new Uint16Array(this.#length * 2);
      units.set(this.#units);
      this.#units = units;
      const offsets = new Uint32Array(this.#length * 2);
      offsets.set(this.#offsets);
      this.#offsets = offsets;
    }
    this.#units[this.#length] = unit;
    this.#offsets[this.#length] = offset;
    this.#length++;
  }
}
