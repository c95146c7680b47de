import { ScholiaError } from "../../contract/errors.ts";
import type { DocumentKind } from "./document.ts";
import { documentTypes } from "./documentTypes.ts";

/** Bytes from the start of a file that `detectKind` looks at, and from the end of a ZIP container,
 * where its table of contents is. */
const headBytes = 4096;
const tailBytes = 65536;
// Readers of PDF accept the header anywhere in the first 1,024 bytes and look for the end in the
// last 1,024 (ISO 32000-1, annex H, 3.4.1 and 3.4.4).
const pdfMargin = 1024;

/** What a file is, by its content first and its name second.
 * Errors: `document_unsupported` for a kind of document that Scholia does not read yet,
 * `document_binary` for what is no document, `document_broken` for a file that is named a PDF and
 * is none. Files without known signs count as text; reading them as text may still find that they
 * are binary. */
export function detectKind(bytes: Uint8Array, name: string): DocumentKind {
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, headBytes));
  let latin = head.toString("latin1");
  if (latin.startsWith(zip)) latin += Buffer.from(bytes.subarray(-tailBytes)).toString("latin1");
  if (looksLikePdf(latin, bytes)) return "pdf";

  const document = unreadDocuments.find((sign) => shows(latin, sign));
  if (document) {
    const message = `${name} is ${document.what}, which Scholia does not read yet. ${document.remedy}`;
    throw new ScholiaError("document_unsupported", message);
  }
  const binary = binaries.find((sign) => shows(latin, sign));
  if (binary) {
    throw new ScholiaError("document_binary", `${name} is ${binary.what}, not a text. ${readable}`);
  }
  const extension = /\.([^.]+)$/.exec(name)?.[1]?.toLowerCase();
  if (extension === "pdf" && head.includes(0)) {
    const message = `${name} is named a PDF, but it does not begin like one: it is damaged or something else. Try to get it again.`;
    throw new ScholiaError("document_broken", message);
  }
  return extension !== undefined && markdownExtensions.has(extension) ? "markdown" : "text";
}

/** A text that only speaks of `%PDF-` near its start is none. */
function looksLikePdf(head: string, bytes: Uint8Array): boolean {
  const header = head.slice(0, pdfMargin).indexOf("%PDF-");
  if (header <= 0) return header === 0;
  return Buffer.from(bytes.subarray(-pdfMargin)).includes("startxref");
}

const markdownExtensions = new Set(
  documentTypes.find(({ kind }) => kind === "markdown")?.extensions,
);

const readable = "Scholia reads PDF, Markdown and plain text.";
const saveAsPdf = "Save it as PDF and open that.";

interface Sign {
  /** How the head begins, as Latin-1: one character per byte. */
  starts: string;
  /** Offset of `starts`; 0 if not given. */
  at?: number;
  /** What else the head has to contain. */
  holds?: RegExp;
  what: string;
}

const shows = (head: string, { starts, at = 0, holds }: Sign): boolean =>
  head.startsWith(starts, at) && (holds === undefined || holds.test(head));

const zip = "PK\x03\x04";

// In ZIP containers the names of the entries tell the kind (EPUB OCF 3.2, 4.2; OASIS ODF 1.2 part 3,
// 3.3; ECMA-376 part 2, 10.1).
const unreadDocuments: (Sign & { remedy: string })[] = [
  { starts: zip, holds: /META-INF\/container\.xml/, what: "an EPUB book", remedy: saveAsPdf },
  {
    starts: zip,
    holds: /mimetypeapplication\/vnd\.oasis\.opendocument/,
    what: "an OpenDocument file",
    remedy: saveAsPdf,
  },
  {
    starts: zip,
    holds: /\[Content_Types\]\.xml/,
    what: "an Office document (DOCX, XLSX or PPTX)",
    remedy: saveAsPdf,
  },
  {
    starts: "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    what: "an old Office document",
    remedy: saveAsPdf,
  },
  { starts: "{\\rtf", what: "a rich text file (RTF)", remedy: saveAsPdf },
  { starts: "%!PS", what: "a PostScript file", remedy: "Turn it into PDF (ps2pdf) and open that." },
  { starts: "AT&TFORM", what: "a DjVu file", remedy: "Turn it into PDF and open that." },
  {
    starts: "",
    holds:
      /^(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*\?>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype )?html[\s>]/is,
    what: "a web page (HTML)",
    remedy: "Print it to a PDF or save its text, and open that.",
  },
];

const binaries: Sign[] = [
  { starts: "\x89PNG\r\n\x1a\n", what: "a PNG picture" },
  { starts: "\xff\xd8\xff", what: "a JPEG picture" },
  { starts: "GIF8", holds: /^GIF8[79]a/, what: "a GIF picture" },
  { starts: "RIFF", holds: /^.{8}(?:WEBP|WAVE|AVI )/s, what: "a picture, sound or film" },
  { starts: "II*\0", what: "a TIFF picture" },
  { starts: "MM\0*", what: "a TIFF picture" },
  { starts: "\0\0\0", holds: /^.{4}ftyp/s, what: "a film or picture" },
  { starts: "ID3", what: "a sound file" },
  { starts: "OggS\0", what: "a sound or film" },
  { starts: "fLaC\0", what: "a sound file" },
  { starts: "\x7fELF", what: "a program" },
  { starts: "MZ", holds: /This program (?:cannot|must)/, what: "a Windows program" },
  { starts: "\xca\xfe\xba\xbe", what: "a program" },
  { starts: "\xcf\xfa\xed\xfe", what: "a program" },
  { starts: "\0asm", what: "a WebAssembly program" },
  { starts: zip, what: "a ZIP archive" },
  { starts: "PK\x05\x06", what: "an empty ZIP archive" },
  { starts: "\x1f\x8b", what: "a gzip archive" },
  { starts: "BZh", holds: /^.{4}1AY&SY/s, what: "a bzip2 archive" },
  { starts: "\xfd7zXZ\0", what: "an xz archive" },
  { starts: "\x28\xb5\x2f\xfd", what: "a zstd archive" },
  { starts: "7z\xbc\xaf\x27\x1c", what: "a 7-Zip archive" },
  { starts: "Rar!\x1a\x07", what: "a RAR archive" },
  { starts: "ustar", at: 257, what: "a tar archive" },
  { starts: "SQLite format 3\0", what: "a database" },
  { starts: "GGUF\x03\0", what: "a model (GGUF)" },
];
