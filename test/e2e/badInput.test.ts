import { execFileSync } from "node:child_process";
import { mkdir, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { modelsDir } from "../../host/models/cache.ts";
import { writePdf } from "../fixtures/documents/pdfWriter.ts";
import { pdfOf, textWith } from "./madeUpDocuments.ts";
import { small, until, usePlace } from "./scholia.ts";

const place = usePlace();
const model = join(modelsDir(), "smollm2-135m.gguf");

async function refusal(...args: string[]): Promise<string> {
  const { code, out, err } = await place.run(args);
  expect(out).toBe("");
  expect(code).toBe(1);
  // One error, and no stack of calls.
  expect(err).not.toMatch(/\n\s+at /);
  return err;
}
const ask = (file: string, ...options: string[]) =>
  refusal("ask", file, "What?", ...small, ...options);

describe("documents", () => {
  test.each<[string, () => Promise<string>, string]>([
    ["that is not there", async () => "/no/such/file.pdf", "document_not_found"],
    ["that is empty", () => place.write("empty.txt", ""), "document_empty"],
    [
      "that is binary",
      () =>
        place.write(
          "binary.txt",
          Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, ...Array(500).fill(0)]),
        ),
      "document_binary",
    ],
    [
      "that is encrypted",
      () =>
        place.write(
          "locked.pdf",
          writePdf([{ lines: ["secret"] }], { encrypt: { user: "u", owner: "o" } }),
        ),
      "document_encrypted",
    ],
    ["without text", () => place.write("scan.pdf", writePdf([{ picture: 1 }])), "document_no_text"],
    [
      "that is broken",
      () => place.write("broken.pdf", pdfOf(["a b c"]).subarray(0, 90)),
      "document_broken",
    ],
    ["that is a folder", async () => place.folder, "document_unsupported"],
  ])("%s is refused with its code", async (_name, make, code) => {
    expect(await ask(await make())).toContain(`error (${code}): `);
  });

  test("of 2 GB is refused at once", async () => {
    const path = await place.write("huge.txt", "a");
    const file = await open(path, "r+");
    await file.truncate(2 * 2 ** 30);
    await file.close();
    expect(await ask(path)).toContain("error (document_too_large)");
  });

  test("with pages that it does not have", async () => {
    const path = await place.write("two.pdf", pdfOf(["one", "two"]));
    expect(await ask(path, "--pages", "2-9")).toContain("error (document_bad_range)");
    expect(await ask(path, "--pages", "two")).toContain("error (document_bad_range)");
  });

  test("longer than the context: the numbers, and what would fit", async () => {
    const pages = Array.from({ length: 20 }, (_, page) => textWith([], 420, page));
    const path = await place.write("long.pdf", pdfOf(pages));
    const message = await ask(path);
    expect(message).toMatch(
      /error \(context_exceeded\): The document has [\d,]+ tokens, the question \d+/,
    );
    expect(message).toContain("context holds 8,192");
    const fitting = /pages (\d+-\d+) fit/.exec(message)?.[1];
    expect(fitting).toBeDefined();
    // What is said to fit does, and one page more does not.
    const last = Number(fitting!.split("-")[1]);
    expect(await ask(path, "--pages", `1-${last + 1}`)).toContain("context_exceeded");
    const running = place.start(["ask", path, "What?", ...small, "--pages", fitting!]);
    await until(async () => ((await place.runFiles()).length > 0 ? true : undefined));
    running.signal("SIGKILL");
    await running.finished;
  });

  test("with an answer that has no room", async () => {
    const path = await place.write("short.txt", "A short text.");
    expect(await ask(path, "--max-tokens", "9000")).toMatch(
      /context_exceeded.*less room \([\d,]+ tokens fit/,
    );
  });
});

describe("models", () => {
  const withModel = (path: string) =>
    refusal("ask", join(place.folder, "short.txt"), "What?", "--model", path);

  test("that are not there, or unknown", async () => {
    expect(await withModel("/no/such/model.gguf")).toContain("error (model_not_found)");
    expect(await withModel("no-such-model")).toContain("error (model_unknown)");
  });

  test("cut in half, or no model at all", async () => {
    const file = await open(model);
    const { size } = await file.stat();
    const { buffer } = await file.read(Buffer.alloc(size >> 1), 0, size >> 1, 0);
    await file.close();
    expect(await withModel(await place.write("half.gguf", buffer))).toContain(
      "error (model_broken)",
    );
    expect(await withModel(await place.write("text.gguf", "no model"))).toContain(
      "error (model_broken)",
    );
  });

  test("with absurd sizes", async () => {
    const file = await open(model);
    const { buffer } = await file.read(Buffer.alloc(4 << 20), 0, 4 << 20, 0);
    await file.close();
    // The number of tensors, then the number of metadata entries.
    buffer.writeBigUInt64LE(1n << 60n, 8);
    expect(await withModel(await place.write("tensors.gguf", buffer))).toContain(
      "error (model_broken)",
    );
    buffer.writeBigUInt64LE(272n, 8);
    buffer.writeBigUInt64LE(1n << 61n, 16);
    expect(await withModel(await place.write("entries.gguf", buffer))).toContain(
      "error (model_broken)",
    );
  });

  test("on a device that is not there", async () => {
    expect(await ask(join(place.folder, "short.txt"), "--device", "cuda")).toContain(
      "error (device_unavailable)",
    );
  });
});

describe("the command line", () => {
  test("gives an error as the one JSON value when asked for JSON", async () => {
    const { code, out } = await place.run(["ask", "/no/such/file", "What?", ...small, "--json"]);
    expect(code).toBe(1);
    expect(JSON.parse(out)).toMatchObject({ error: { code: "document_not_found" } });
  });

  test("says when the data folder can't be made", async () => {
    const file = await place.write("file", "x");
    const { code, err } = await place.run(["read", file, ...small, "--data", join(file, "data")]);
    expect(code).toBe(1);
    expect(err).toMatch(/error \(invalid_argument\): The data folder .* Name another with --data/);
    expect(await readFile(file, "utf8")).toBe("x");
  });
});

// A file system of three megabytes takes no run of KV. Only root can make one.
describe.skipIf(process.getuid?.() !== 0)("a full disk", () => {
  test("loses the read, not the answer, and says so", async () => {
    const tiny = join(place.folder, "tiny");
    await mkdir(tiny);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=3m", "tmpfs", tiny]);
    try {
      const path = await place.write(
        "disk.txt",
        textWith(["The door code of Ida's boathouse is 48213."], 1200),
      );
      const question = "What is the door code of Ida's boathouse?";
      const { code, out, err } = await place.run([
        "ask",
        path,
        question,
        ...small,
        "--max-tokens",
        "32",
        "--data",
        tiny,
      ]);
      expect(code, err).toBe(0);
      expect(out).toContain("48213");
      expect(err).toMatch(/note: The read could not be saved: /);
      expect(err).not.toContain("internal");
    } finally {
      execFileSync("umount", [tiny]);
    }
  });
});
