import iconv from "iconv-lite";
import { detect } from "jschardet";
import { ScholiaError } from "../../contract/errors.ts";

export interface DecodedText {
  /** Without byte order mark and NUL, lines ending with LF, no lone surrogate. */
  text: string;
  /** As a person calls it, e.g. `UTF-8` or `Windows-1251 (guessed)`. */
  encoding: string;
  /** What was repaired; one sentence each. */
  notes: string[];
}

// The detector needs some thousand bytes of the foreign letters, not the whole file.
const detectorBytes = 128 * 1024;
// More than this share of characters that no text has: the file is binary. Bytes at random have a
// tenth of control characters, real text with a few damaged places far less than a hundredth.
const binaryShare = 0.02;

/** Text from the bytes of a text file in any encoding that occurs: by byte order mark, then UTF-8
 * if valid, UTF-16 by its pattern of zero bytes, and a guess from letter statistics otherwise.
 * Errors: `document_binary`. `name` is for messages. */
export function decodeText(bytes: Uint8Array, name: string): DecodedText {
  const { text: raw, encoding } = decode(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
  const notes: string[] = [];
  const counts = countStrange(raw);
  if (counts.nul + counts.control + counts.replaced > binaryShare * raw.length) {
    const message = `${name} is a binary file, not a text. Scholia reads PDF, Markdown and plain text.`;
    throw new ScholiaError("document_binary", message);
  }
  if (counts.nul > 0) notes.push(`${times(counts.nul, "zero byte")} left out.`);
  if (counts.replaced > 0) {
    notes.push(
      `${times(counts.replaced, "character")} not valid in ${encoding} and shown as \ufffd.`,
    );
  }
  let text = raw.includes("\r") ? raw.replace(/\r\n?/g, "\n") : raw;
  if (counts.nul > 0) text = text.replaceAll("\0", "");
  return { text: text.toWellFormed(), encoding, notes };
}

const times = (count: number, what: string): string =>
  count === 1 ? `1 ${what} was` : `${count} ${what}s were`;

function decode(bytes: Buffer): { text: string; encoding: string } {
  const marked = byteOrderMarks.find(({ mark }) => bytes.subarray(0, mark.length).equals(mark));
  if (marked) {
    return {
      text: iconv.decode(bytes.subarray(marked.mark.length), marked.codec),
      encoding: marked.encoding,
    };
  }
  const utf16 = unmarkedUtf16(bytes);
  if (utf16) return { text: iconv.decode(bytes, utf16), encoding: utf16.toUpperCase() };
  const utf8 = decodeUtf8(bytes);
  if (utf8 !== undefined) return { text: utf8, encoding: "UTF-8" };
  const guess = guessEncoding(bytes);
  return { text: iconv.decode(bytes, guess), encoding: `${guess} (guessed)` };
}

// UTF-32's little-endian mark begins with UTF-16's, so it comes first.
const byteOrderMarks = [
  { mark: Buffer.from([0xff, 0xfe, 0, 0]), codec: "utf-32le", encoding: "UTF-32LE" },
  { mark: Buffer.from([0, 0, 0xfe, 0xff]), codec: "utf-32be", encoding: "UTF-32BE" },
  { mark: Buffer.from([0xef, 0xbb, 0xbf]), codec: "utf-8", encoding: "UTF-8" },
  { mark: Buffer.from([0xff, 0xfe]), codec: "utf-16le", encoding: "UTF-16LE" },
  { mark: Buffer.from([0xfe, 0xff]), codec: "utf-16be", encoding: "UTF-16BE" },
];

/** UTF-16 without a mark: the zero bytes of its ASCII characters (at least spaces and line ends)
 * all stand at odd (little-endian) or even (big-endian) places. */
function unmarkedUtf16(bytes: Buffer): "utf-16le" | "utf-16be" | undefined {
  if (bytes.length % 2 !== 0) return undefined;
  const zeros = [0, 0];
  for (let at = bytes.indexOf(0); at !== -1; at = bytes.indexOf(0, at + 1)) zeros[at & 1]!++;
  const [even, odd] = zeros as [number, number];
  const most = Math.max(even, odd);
  if (most * 100 < bytes.length || Math.min(even, odd) * 20 > most) return undefined;
  const codec = odd > even ? "utf-16le" : "utf-16be";
  const sample = iconv.decode(bytes.subarray(0, 8192), codec);
  const letters = sample.match(/[\p{L}\p{M}\p{N}\p{P}\p{Zs}\n\r\t]/gu)?.length ?? 0;
  return letters >= 0.9 * sample.length ? codec : undefined;
}

/** Undefined when the bytes are not UTF-8. A few damaged places in much valid text are accepted. */
function decodeUtf8(bytes: Buffer): string | undefined {
  const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  if (!text.includes("\ufffd")) return text;
  const damaged = text.match(/\ufffd/g)!.length;
  const foreign = text.match(/[\u0080-\ufffc\u{10000}-\u{10ffff}]/gu)?.length ?? 0;
  return foreign >= 10 * damaged ? text : undefined;
}

function guessEncoding(bytes: Buffer): string {
  const firstForeign = bytes.findIndex((byte) => byte >= 0x80);
  const start = Math.max(0, firstForeign - 1024);
  const guess = detect(bytes.subarray(start, start + detectorBytes)).encoding ?? "";
  // Windows' encodings extend these with printable characters where ISO's have control codes
  // (WHATWG Encoding Standard, 4.2), and GB18030 extends its ancestors.
  const wider = widerEncodings[guess.toLowerCase()] ?? guess;
  return iconv.encodingExists(wider) && wider !== "" ? wider : "Windows-1252";
}

const widerEncodings: Record<string, string> = {
  ascii: "Windows-1252",
  "iso-8859-1": "Windows-1252",
  "iso-8859-9": "Windows-1254",
  "iso-8859-11": "Windows-874",
  "tis-620": "Windows-874",
  shift_jis: "CP932",
  gb2312: "GB18030",
  gbk: "GB18030",
};

function countStrange(text: string): { nul: number; control: number; replaced: number } {
  const counts = { nul: 0, control: 0, replaced: 0 };
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 0) counts.nul++;
    else if (code < 32 && !layoutControls.has(code)) counts.control++;
    else if (code === 127 || (code >= 0x80 && code < 0xa0)) counts.control++;
    else if (code === 0xfffd) counts.replaced++;
  }
  return counts;
}

// Backspace (overstrike in manual pages), tab, LF, vertical tab, form feed, CR, escape (terminal colours).
const layoutControls = new Set([8, 9, 10, 11, 12, 13, 27]);
