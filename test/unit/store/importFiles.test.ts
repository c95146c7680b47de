import { mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { storeDir } from "../../../host/store/reads.ts";
import { answerOf, documentId } from "./answerOf.ts";
import { dataFolder } from "./folder.ts";

const folder = dataFolder();

const manifest = {
  version: 1,
  document: { id: documentId, path: "/books/a.pdf", title: "A", kind: "pdf", pages: 41 },
  reads: [
    {
      key: "k1",
      model: { name: "m", fingerprint: "0123456789abcdef0123" },
      pages: "1-41",
      chunkTokens: 512,
      tokens: 1500,
      documentTokens: 1400,
      complete: true,
      runs: ["a.kv", "../../b.kv"],
      bytes: 10,
      lastUse: "2026-01-01T00:00:00.000Z",
    },
  ],
};
const chatId = "11111111-2222-3333-4444-555555555555";
const head = {
  version: 1,
  chat: chatId,
  path: "/books/a.pdf",
  pages: "1-3",
  started: "2026-01-02T00:00:00.000Z",
};

describe("files of earlier versions", () => {
  test("are brought into the database once, and kept", async () => {
    await mkdir(join(folder.path, "library"));
    await mkdir(join(folder.path, "chats"));
    await mkdir(storeDir(folder.path, "0123456789abcdef0123"), { recursive: true });
    await folder.write(`library/${documentId}.json`, JSON.stringify(manifest));
    await folder.write("reads/0123456789abcdef/a.kv", "12345");
    const answer = answerOf("One.");
    const lines = [head, { question: "One?", ...answer }, { question: "Two?", answer: "2." }].map(
      (line) => JSON.stringify(line),
    );
    await folder.write(`chats/${chatId}.jsonl`, `${lines.join("\n")}\n{"question":"Three?","ans`);

    for (const _ of ["first", "second"]) {
      const { documents, chats, notices } = await folder.open();
      expect(notices).toEqual([]);
      expect(await documents.list()).toMatchObject([
        {
          id: documentId,
          title: "A",
          pages: 41,
          file: "missing",
          chats: 1,
          reads: [{ key: "k1", bytes: 5, storedTokens: 1500, complete: true }],
        },
      ]);
      expect(chats.path(chatId, chats.shown(chatId))).toEqual([
        { question: "One?", answer: "One." },
        { question: "Two?", answer: "2." },
      ]);
      const { tree, pages } = chats.get(chatId);
      expect(pages).toBe("1-3");
      expect(tree[0]).toMatchObject({ answer, state: "answered" });
      expect(tree[1]).toMatchObject({ answer: null, text: "2.", parentId: tree[0]?.id });
    }
    const kept = join(folder.path, "chats-imported", `${chatId}.jsonl`);
    expect(await readFile(kept, "utf8")).toContain("Three?");
    expect(await readdir(join(folder.path, "library-imported"))).toHaveLength(1);
    expect(await readdir(join(folder.path, "chats"))).toEqual([]);
  });

  test("that can't be understood stay where they are and are named", async () => {
    await mkdir(join(folder.path, "library"));
    await mkdir(join(folder.path, "chats"));
    const broken = [
      await folder.write("library/x.json", JSON.stringify(manifest).slice(0, 80)),
      await folder.write("library/y.json", JSON.stringify({ ...manifest, version: 9 })),
      await folder.write("chats/z.jsonl", "{}\n"),
    ];
    const { notices } = await folder.open();
    expect(notices).toHaveLength(1);
    for (const path of broken) {
      expect(notices[0]).toContain(path);
      expect((await readFile(path)).length).toBeGreaterThan(0);
    }
  });
});
