import { fork } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { chmod, mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deflateRawSync, gzipSync } from "node:zlib";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ReadOptions, readDocument } from "../../../host/document/read.ts";
import { writePdf } from "../../fixtures/documents/pdfWriter.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "scholia-documents-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function errorOf(source: string | Uint8Array, options: ReadOptions = {}) {
  const result = await readDocument(source, options);
  if (result.ok) throw new Error(`read: ${result.value.report.summary}`);
  // Every error is a sentence that names the document.
  expect(result.error.message).toMatch(/[.)]$/);
  return result.error;
}

/** Processes that read documents for this one. */
function readers(parent = process.pid): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const ppid = Number(/\) \S (\d+)/.exec(readFileSync(`/proc/${pid}/stat`, "utf8"))?.[1]);
        const command = readFileSync(`/proc/${pid}/cmdline`, "utf8");
        return ppid === parent && command.includes("readProcess");
      } catch {
        return false;
      }
    });
}
const onLinux = process.platform === "linux";

/** Forms of which each draws the next ten times: a thousand million objects from four kilobytes. */
const bomb = writePdf([{ lines: ["One page"] }, { content: "/X0 Do" }], {
  forms: Array.from({ length: 12 }, (_, i) =>
    i === 11 ? "0 0 m 1 1 l S" : `/X${i + 1} Do `.repeat(10),
  ),
});

test("a file that is not there, and a folder", async () => {
  expect((await errorOf(join(folder, "nothing.pdf"))).code).toBe("document_not_found");
  const error = await errorOf(folder);
  expect(error.code).toBe("document_unsupported");
  expect(error.message).toContain("folder");
});

test.skipIf(process.getuid?.() === 0)("a file that may not be read", async () => {
  const path = join(folder, "locked.txt");
  await writeFile(path, "words");
  await chmod(path, 0);
  expect((await errorOf(path)).code).toBe("document_not_found");
});

test("an empty file", async () => {
  const path = join(folder, "empty.pdf");
  await writeFile(path, "");
  expect((await errorOf(path)).code).toBe("document_empty");
  expect((await errorOf(new Uint8Array())).code).toBe("document_empty");
});

test("a text of nothing but white space", async () => {
  expect((await errorOf(Buffer.from(" \n\n\t\n"))).code).toBe("document_no_text");
});

test("a file of 2 GB is refused by its size, unread", async () => {
  const path = join(folder, "large.txt");
  const file = await open(path, "w");
  await file.truncate(2 * 2 ** 30);
  await file.close();
  const error = await errorOf(path);
  expect(error.code).toBe("document_too_large");
  expect(error.message).toContain("2,048 MB");
});

test("more characters or pages than the limits", async () => {
  const text = Buffer.from("words and words\n".repeat(1000));
  const few = await errorOf(text, { limits: { characters: 5000 } });
  expect(few.code).toBe("document_too_large");
  expect(few.message).toContain("5,000");
  const pdf = writePdf(Array(6).fill({ lines: ["a page of words"] }));
  expect((await errorOf(pdf, { limits: { pages: 5 } })).code).toBe("document_too_large");
  expect((await errorOf(pdf, { limits: { characters: 30 } })).code).toBe("document_too_large");
});

test("a range of pages that the document does not have", async () => {
  const pdf = writePdf([{ lines: ["one"] }, { lines: ["two"] }]);
  const error = await errorOf(pdf, { pages: "1-3" });
  expect(error.code).toBe("document_bad_range");
  expect(error.message).toContain("2 pages");
});

test("an encrypted PDF without its password, and with a wrong one", async () => {
  const pdf = writePdf([{ lines: ["A secret"] }], { encrypt: { user: "sesame", owner: "owner" } });
  const without = await errorOf(pdf);
  expect(without.code).toBe("document_encrypted");
  expect(without.message).toContain("needs a password");
  const wrong = await errorOf(pdf, { password: "barley" });
  expect(wrong.code).toBe("document_encrypted");
  expect(wrong.message).toContain("does not open");
});

test("a PDF without text: scanned, empty, and a chosen range without any", async () => {
  const scan = await errorOf(writePdf([{ picture: 1 }, { picture: 1, lines: ["2"] }]));
  expect(scan.code).toBe("document_no_text");
  expect(scan.message).toContain("pages 1-2 are probably scanned");
  expect((await errorOf(writePdf([{}]))).code).toBe("document_no_text");
  const mixed = writePdf([{ lines: ["A page of text"] }, { picture: 1 }]);
  expect((await errorOf(mixed, { pages: "2" })).code).toBe("document_no_text");
});

test("a broken PDF", async () => {
  const noise = Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * 7919) % 251));
  expect((await errorOf(Buffer.concat([Buffer.from("%PDF-1.7\n"), noise]))).code).toBe(
    "document_broken",
  );
  expect((await errorOf(Buffer.from("%PDF-1.7\n%%EOF\n"))).code).toBe("document_broken");
  // Named a PDF, but binary and without a PDF's header.
  expect((await errorOf(noise, { name: "thesis.pdf" })).code).toBe("document_broken");
});

test("a PDF cut short gives an error or says what is missing, wherever it is cut", async () => {
  const pages = Array.from({ length: 8 }, (_, i) => ({ lines: [`This is page ${i + 1}`] }));
  const whole = writePdf(pages);
  for (const share of [0.1, 0.3, 0.5, 0.7, 0.9, 0.99]) {
    const result = await readDocument(whole.subarray(0, whole.length * share), { name: "cut.pdf" });
    if (!result.ok) {
      expect(result.error.code).toBe("document_broken");
      continue;
    }
    const { report, text } = result.value;
    expect(report.notes.join()).toContain("cut short");
    for (let page = 1; page <= 8; page++) {
      const known = result.value.pages.find(({ number }) => number === page);
      const read = text.includes(`This is page ${page}`);
      expect(read || known === undefined || known.status !== "text").toBe(true);
    }
  }
});

test("a PDF with damaged bytes in it ends in a value, whatever they do", async () => {
  const whole = writePdf(Array(5).fill({ lines: ["Some words on a page"] }));
  const damaged = Buffer.from(whole);
  for (let at = 100; at < damaged.length; at += 97) damaged[at] = (damaged[at]! * 31 + 7) & 255;
  const result = await readDocument(damaged, { name: "damaged.pdf" });
  expect(result.ok || result.error.code.startsWith("document_")).toBe(true);
});

// A fast machine needs a second to fill the memory limit, so the time is well below it.
test("a PDF that takes for ever is ended at the time limit, and its process is gone", async () => {
  const error = await errorOf(bomb, {
    name: "bomb.pdf",
    limits: { seconds: 0.4, memoryBytes: 3 * 2 ** 30 },
  });
  expect(error.code).toBe("document_timeout");
  expect(error.message).toContain("0.4 s");
  if (onLinux) expect(readers()).toEqual([]);
});

test("a PDF that takes all memory is ended at the memory limit", async () => {
  const error = await errorOf(bomb, { limits: { memoryBytes: 128 * 2 ** 20 } });
  expect(error.code).toBe("document_too_large");
  expect(error.message).toContain("128 MB");
});

test("a small PDF that unpacks to a huge content stream is ended at the memory limit", async () => {
  const spaces = writePdf([{ content: " ".repeat(80e6) }], { deflate: true });
  const error = await errorOf(spaces, { limits: { memoryBytes: 64 * 2 ** 20 } });
  expect(error.code).toBe("document_too_large");
});

test("reading can be cancelled, before and during", async () => {
  expect((await errorOf(bomb, { signal: AbortSignal.abort() })).code).toBe("cancelled");
  const controller = new AbortController();
  const reading = errorOf(bomb, { signal: controller.signal });
  setTimeout(() => controller.abort(), 400);
  expect((await reading).code).toBe("cancelled");
  if (onLinux) expect(readers()).toEqual([]);
});

test.runIf(onLinux)("a reading process does not outlive a host that was killed", async () => {
  const path = join(folder, "bomb.pdf");
  await writeFile(path, bomb);
  const reader = new URL("../../../host/document/read.ts", import.meta.url).href;
  const script = join(folder, "host.mjs");
  await writeFile(
    script,
    `import { readDocument } from ${JSON.stringify(reader)};
     await readDocument(${JSON.stringify(path)}, { onProgress: (p) => process.send(p) });`,
  );
  const host = fork(script, { execArgv: [] });
  await new Promise((resolve) => host.once("message", resolve));
  const [pid] = readers(host.pid);
  expect(pid).toBeDefined();
  host.kill("SIGKILL");
  await expect.poll(() => isAlive(pid!), { timeout: 10_000 }).toBe(false);
});

function isAlive(pid: number): boolean {
  try {
    // A process that has ended but was not yet waited for has no command line.
    return readFileSync(`/proc/${pid}/cmdline`, "utf8") !== "";
  } catch {
    return false;
  }
}

const zipEntry = (name: string, data: string): Buffer => {
  const packed = deflateRawSync(data);
  const head = Buffer.alloc(30);
  head.write("PK\x03\x04", "latin1");
  head.writeUInt16LE(8, 8);
  head.writeUInt32LE(packed.length, 18);
  head.writeUInt32LE(data.length, 22);
  head.writeUInt16LE(name.length, 26);
  return Buffer.concat([head, Buffer.from(name), packed]);
};

test.each([
  ["picture.txt", Buffer.from("89504e470d0a1a0a0000000d49484452", "hex"), "PNG"],
  ["program.txt", Buffer.from("7f454c460201010000000000", "hex"), "program"],
  ["archive.txt", zipEntry("notes/readme", "words"), "ZIP"],
  ["packed.txt", gzipSync("words"), "gzip"],
  ["photo.md", Buffer.from("ffd8ffe000104a464946", "hex"), "JPEG"],
  ["zeros.txt", Buffer.alloc(5000), "binary"],
  [
    "noise.txt",
    Buffer.from(Array.from({ length: 4000 }, (_, i) => (i * i * 31 + (i >> 3)) % 256)),
    "binary",
  ],
])("%s is refused as binary", async (name, bytes, what) => {
  const error = await errorOf(bytes, { name });
  expect(error.code).toBe("document_binary");
  expect(error.message).toContain(what);
});

test.each([
  ["letter.docx", zipEntry("[Content_Types].xml", "<Types/>"), "Office"],
  ["book.epub", zipEntry("META-INF/container.xml", "<container/>"), "EPUB"],
  ["old.doc", Buffer.from("d0cf11e0a1b11ae1", "hex"), "old Office"],
  ["page.txt", Buffer.from("<!DOCTYPE html>\n<html><body>words</body></html>"), "web page"],
  ["rich.txt", Buffer.from("{\\rtf1 words}"), "RTF"],
])(
  "%s is a document that is not read yet, and the error says what to do",
  async (name, bytes, what) => {
    const error = await errorOf(bytes, { name });
    expect(error.code).toBe("document_unsupported");
    expect(error.message).toContain(what);
    expect(error.message).toMatch(/PDF/);
  },
);

test("Markdown nested without end is read", async () => {
  const deep = `${"> ".repeat(20_000)}words\n\n${"[".repeat(50_000)}\n\n${"- ".repeat(5000)}x\n`;
  const result = await readDocument(Buffer.from(deep), { name: "deep.md" });
  expect(result.ok && result.value.text).toBe(deep);
});
