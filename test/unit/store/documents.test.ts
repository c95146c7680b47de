import { createHash } from "node:crypto";
import { mkdir, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { NewRead } from "../../../host/store/reads.ts";
import { storeDir } from "../../../host/store/reads.ts";
import { dataFolder } from "./folder.ts";

const folder = dataFolder();
const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

const read = (documentId: string, change: Partial<NewRead> = {}): NewRead => ({
  key: "k1",
  documentId,
  model: { name: "m", fingerprint: "f1" },
  pages: "1-41",
  chunkTokens: 512,
  tokens: 3000,
  documentTokens: 2900,
  storedTokens: 3000,
  complete: true,
  runs: [],
  ...change,
});

describe("documents", () => {
  test("are named by their bytes, and show the reader's name, the file's title or the file's name", async () => {
    const { documents } = await folder.open();
    const path = await folder.write("a.md", "# A\n\ntext");
    const entry = await documents.add(path);
    expect(entry).toMatchObject({
      id: sha256("# A\n\ntext"),
      title: "a.md",
      kind: "markdown",
      bytes: 9,
      pages: null,
      file: "present",
      reads: [],
      chats: 0,
    });
    const facts = { id: entry.id, path, name: "a.md", kind: "markdown" as const };
    await documents.opened({ ...facts, fileTitle: "A title", pages: 3 });
    expect(await documents.get(entry.id)).toMatchObject({ title: "A title", pages: 3 });
    expect(await documents.rename(entry.id, "Mine")).toMatchObject({ title: "Mine" });
    await documents.add(path);
    expect(await documents.list()).toMatchObject([{ title: "Mine", pages: 3 }]);
  });

  test("tell whether their file is as it was", async () => {
    const { documents } = await folder.open();
    const path = await folder.write("a.txt", "text");
    const { id } = await documents.add(path);
    const state = async () => (await documents.get(id)).file;
    await utimes(path, new Date(), new Date(Date.now() - 60_000));
    expect(await state()).toBe("present");
    await writeFile(path, "texT");
    expect(await state()).toBe("changed");
    await expect(documents.locate(id)).rejects.toMatchObject({ code: "document_not_found" });
    await rm(path);
    expect(await state()).toBe("missing");
    // The same file at another place is the same document.
    const moved = await folder.write("b.txt", "text");
    expect(await documents.add(moved)).toMatchObject({ id, file: "present", path: moved });
    expect(await documents.locate(id)).toBe(moved);
  });

  test("that are none are refused with a reason", async () => {
    const { documents } = await folder.open();
    const reasons: [string, string][] = [
      [join(folder.path, "none.txt"), "document_not_found"],
      [folder.path, "document_unsupported"],
      [await folder.write("empty.txt", ""), "document_empty"],
      [await folder.write("a.pdf", "\0\0\0\0 no pdf"), "document_broken"],
      [await folder.write("a.txt", "\x7fELF\x02\x01\x01 and more"), "document_binary"],
    ];
    for (const [path, code] of reasons) {
      await expect(documents.add(path)).rejects.toMatchObject({ code });
    }
    expect(await documents.list()).toEqual([]);
    await expect(documents.get("0".repeat(64))).rejects.toMatchObject({ code: "not_found" });
  });

  test("that are taken out lose their KV and keep their chats for when they come back", async () => {
    const { documents, reads, chats } = await folder.open();
    const path = await folder.write("a.txt", "text");
    const { id } = await documents.add(path);
    await documents.rename(id, "Mine");
    const file = await runFile("a.kv", 10);
    reads.enter(read(id, { runs: [{ file: "a.kv", bytes: 10 }] }));
    const chat = chats.create({ documentId: id, path, pages: null });
    await documents.remove(id);
    expect(await documents.list()).toEqual([]);
    expect(reads.ofDocument(id)).toEqual([]);
    expect(await readdir(join(folder.path, "reads", "f1"))).not.toContain(file);
    await documents.add(path);
    expect(await documents.list()).toMatchObject([{ title: "Mine", chats: 1 }]);
    expect(chats.list().map((entry) => entry.id)).toEqual([chat]);
  });
});

describe("reads", () => {
  test("are one for each document, model and range of pages", async () => {
    const { documents, reads } = await folder.open();
    const { id } = await documents.add(await folder.write("a.txt", "text"));
    reads.enter(read(id));
    reads.pin("k1", true);
    reads.enter(read(id, { pages: "1-20", key: "k2" }));
    reads.enter(read(id, { model: { name: "n", fingerprint: "f2" }, key: "k3" }));
    reads.enter(read(id, { key: "k4", runs: [{ file: "a.kv", bytes: 7 }] }));
    const entries = reads.ofDocument(id);
    expect(entries.map(({ key }) => key).sort()).toEqual(["k2", "k3", "k4"]);
    // What took the place of a pinned read is pinned.
    expect(entries.find(({ key }) => key === "k4")).toMatchObject({ pinned: true, bytes: 7 });
    expect(() => reads.pin("k1", true)).toThrow(/no longer/);
  });

  test("share files, which go with the last read that has them", async () => {
    const { documents, reads } = await folder.open();
    const { id } = await documents.add(await folder.write("a.txt", "text"));
    for (const name of ["both.kv", "one.kv", "two.kv"]) await runFile(name, 100);
    const runs = (...names: string[]) => names.map((file) => ({ file, bytes: 100 }));
    reads.enter(read(id, { key: "k1", pages: "1", runs: runs("both.kv", "one.kv") }));
    reads.enter(read(id, { key: "k2", pages: "2", runs: runs("both.kv", "two.kv") }));
    expect((await reads.store(null)).bytes).toBe(300);
    await reads.remove("k1");
    expect(await runFiles()).toEqual(["both.kv", "two.kv"]);
    await reads.remove("k2");
    expect(await runFiles()).toEqual([]);
    await expect(reads.remove("k2")).rejects.toMatchObject({ code: "not_found" });
  });

  test("make room: old orphans first, then what was used longest ago, never what is pinned or kept", async () => {
    const { documents, reads, database } = await folder.open();
    const { id } = await documents.add(await folder.write("a.txt", "text"));
    for (const name of ["1.kv", "2.kv", "3.kv", "4.kv", "old.kv", "new.kv"])
      await runFile(name, 100);
    const yesterday = new Date(Date.now() - 25 * 3600 * 1000);
    await utimes(join(folder.path, "reads", "f1", "old.kv"), yesterday, yesterday);
    for (const at of [1, 2, 3, 4]) {
      const runs = [{ file: `${at}.kv`, bytes: 100 }];
      reads.enter(read(id, { key: `k${at}`, pages: `${at}`, runs }));
      database.run("UPDATE reads SET last_use = ? WHERE key = ?", `2026-01-0${at}`, `k${at}`);
    }
    reads.pin("k1", true);
    expect(await reads.makeRoom(600)).toEqual([]);
    expect(await reads.makeRoom(500)).toEqual([]);
    expect(await runFiles()).toEqual(["1.kv", "2.kv", "3.kv", "4.kv", "new.kv"]);
    const removed = await reads.makeRoom(350, ["k2"]);
    expect(removed.map(({ key }) => key)).toEqual(["k3", "k4"]);
    expect(await runFiles()).toEqual(["1.kv", "2.kv", "new.kv"]);
    expect((await reads.makeRoom(0)).map(({ key }) => key)).toEqual(["k2"]);
    expect(await runFiles()).toEqual(["1.kv", "new.kv"]);
  });
});

async function runFile(name: string, bytes: number): Promise<string> {
  const stored = storeDir(folder.path, "f1");
  await mkdir(stored, { recursive: true });
  await writeFile(join(stored, name), Buffer.alloc(bytes));
  return name;
}

const runFiles = async () => (await readdir(storeDir(folder.path, "f1"))).sort();
