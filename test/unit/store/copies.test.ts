import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { sampleName } from "../../../contract/documents.ts";
import { copiesDir, keepSample, keepText, removeCopy } from "../../../host/store/copies.ts";
import { dataFolder } from "./folder.ts";

const folder = dataFolder();

describe("a text that came without a file", () => {
  test.each([
    ["Minutes of the meeting.\nPresent: all.", "Minutes of the meeting.txt"],
    ["\n\n  ../../etc/passwd is a file", "etc passwd is a file.txt"],
    ["./\\ ", "Pasted text.txt"],
    ["x".repeat(500), `${"x".repeat(80)}.txt`],
  ])("%j is kept whole, as %j", async (text, name) => {
    const path = await keepText(folder.path, text);
    expect(basename(path)).toBe(name);
    expect(dirname(dirname(path))).toBe(copiesDir(folder.path));
    expect(await readFile(path, "utf8")).toBe(text);
  });

  test("is one document however often it is pasted", async () => {
    const { documents } = await folder.open();
    const first = await documents.add(await keepText(folder.path, "The same words."));
    const again = await documents.add(await keepText(folder.path, "The same words."));
    expect(again.id).toBe(first.id);
    expect(dirname(first.path).endsWith(first.id)).toBe(true);
  });

  test("goes with its document; a file of the person's own stays", async () => {
    const { documents } = await folder.open();
    const copy = await documents.add(await keepText(folder.path, "Pasted words."));
    await removeCopy(folder.path, copy.id, copy.path);
    await expect(stat(copy.path)).rejects.toMatchObject({ code: "ENOENT" });

    const own = join(folder.path, "uploads-of-mine", "own.txt");
    await mkdir(dirname(own));
    await writeFile(own, "Own words.");
    const { id, path } = await documents.add(own);
    await removeCopy(folder.path, id, path);
    expect(await readFile(own, "utf8")).toBe("Own words.");
  });
});

test("the sample enters the library as Markdown", async () => {
  const { documents } = await folder.open();
  const entry = await documents.add(await keepSample(folder.path));
  expect(entry).toMatchObject({ name: sampleName, kind: "markdown", file: "present" });
});
