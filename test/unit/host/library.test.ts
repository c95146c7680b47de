import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { appendTurn, createChat, loadTurns } from "../../../host/answer/chats.ts";
import {
  bytesOf,
  enterRead,
  type LibraryRead,
  loadManifest,
  manifestPath,
  storeDir,
  writeWhole,
} from "../../../host/kv/library.ts";

let data: string;
beforeEach(async () => {
  data = await mkdtemp(join(tmpdir(), "scholia-data-"));
});
afterEach(() => rm(data, { recursive: true }));

const document = { id: "d1", path: "/books/a.pdf", title: "A", kind: "pdf", pages: 41 };
const read = (change: Partial<LibraryRead> = {}): LibraryRead => ({
  key: "k1",
  model: { name: "m", fingerprint: "f1" },
  pages: "1-41",
  chunkTokens: 512,
  tokens: 1000,
  documentTokens: 900,
  complete: true,
  runs: ["a.run"],
  bytes: 10,
  lastUse: "2026-01-01T00:00:00.000Z",
  ...change,
});

describe("the library", () => {
  test("keeps one entry for each model and range of pages", async () => {
    await enterRead(data, document, read());
    await enterRead(data, document, read({ pages: "1-20", key: "k2" }));
    await enterRead(data, document, read({ model: { name: "n", fingerprint: "f2" }, key: "k3" }));
    await enterRead(data, document, read({ key: "k4", lastUse: "2026-02-01T00:00:00.000Z" }));
    const manifest = await loadManifest(data, "d1");
    expect(manifest?.reads.map(({ key }) => key).sort()).toEqual(["k2", "k3", "k4"]);
  });

  test("takes a damaged manifest for none, and writes it anew", async () => {
    await enterRead(data, document, read());
    const path = manifestPath(data, "d1");
    const whole = await readFile(path, "utf8");
    for (const damaged of [
      whole.slice(0, 50),
      "{}",
      "",
      whole.replace('"version": 1', '"version": 9'),
    ]) {
      await writeFile(path, damaged);
      expect(await loadManifest(data, "d1")).toBeNull();
    }
    await enterRead(data, document, read());
    expect((await loadManifest(data, "d1"))?.reads).toHaveLength(1);
  });

  test("leaves nothing beside a file that is written, and the old one when it can't be", async () => {
    const folder = join(data, "x");
    await writeWhole(join(folder, "a.json"), "one");
    await writeWhole(join(folder, "a.json"), "two");
    expect(await readdir(folder)).toEqual(["a.json"]);
    await mkdir(join(folder, "b.json"));
    await expect(writeWhole(join(folder, "b.json"), "text")).rejects.toThrow();
    expect(await readFile(join(folder, "a.json"), "utf8")).toBe("two");
    expect((await readdir(folder)).sort()).toEqual(["a.json", "b.json"]);
  });

  test("keeps the reads of each model apart and counts their bytes", async () => {
    expect(storeDir("/data", "0123456789abcdef0123")).toBe("/data/reads/0123456789abcdef");
    await writeFile(join(data, "r1"), "12345");
    expect(await bytesOf([join(data, "r1"), join(data, "gone")])).toBe(5);
  });
});

describe("chats", () => {
  test("keep their turns in order, with what belongs to them", async () => {
    const chat = await createChat(data, { path: "/a.pdf", pages: "1-3" });
    expect(await loadTurns(data, chat)).toEqual([]);
    await appendTurn(data, chat, { question: "One?", answer: "1.", citations: [] });
    await appendTurn(data, chat, { question: "Two?\nlines", answer: "2." });
    expect(await loadTurns(data, chat)).toEqual([
      { question: "One?", answer: "1." },
      { question: "Two?\nlines", answer: "2." },
    ]);
    const lines = (await readFile(join(data, "chats", `${chat}.jsonl`), "utf8"))
      .trimEnd()
      .split("\n");
    expect(JSON.parse(lines[0]!)).toMatchObject({ path: "/a.pdf", pages: "1-3" });
    expect(JSON.parse(lines[1]!)).toMatchObject({ citations: [] });
  });

  test("lose only the line that was being written when the process died", async () => {
    const chat = await createChat(data, { path: "/a.pdf" });
    await appendTurn(data, chat, { question: "One?", answer: "1." });
    const path = join(data, "chats", `${chat}.jsonl`);
    const whole = await readFile(path, "utf8");
    await writeFile(path, `${whole}{"question":"Two?","ans`);
    expect(await loadTurns(data, chat)).toEqual([{ question: "One?", answer: "1." }]);
    await appendTurn(data, chat, { question: "Three?", answer: "3." });
    expect(await loadTurns(data, chat)).toEqual([
      { question: "One?", answer: "1." },
      { question: "Three?", answer: "3." },
    ]);
  });

  test("that are not there are said to be so", async () => {
    await expect(loadTurns(data, "none")).rejects.toMatchObject({ code: "invalid_argument" });
  });
});
