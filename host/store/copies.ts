/** Documents that came without a file: a browser's upload, pasted text, the sample. Each lies in the
 * data folder, in a folder named by the hash of its bytes, and goes when it leaves the library. */
import { createHash } from "node:crypto";
import { readFile, rm } from "node:fs/promises";
import { join, sep } from "node:path";
import { sampleName } from "../../contract/documents.ts";
import { ownFile } from "../places.ts";
import { writeWhole } from "./files.ts";

export const copiesDir = (dataDir: string): string => join(dataDir, "uploads");

/** @returns the text's path; it is named by its first words
 * @throws ScholiaError `disk_full` */
export function keepText(dataDir: string, text: string): Promise<string> {
  const words = (/\S.*/.exec(text)?.[0] ?? "").split(/[\s./\\]+/).filter(Boolean);
  return keep(dataDir, fileName(`${words.slice(0, 8).join(" ") || "Pasted text"}.txt`), text);
}

/** Puts the sample among the person's own files, for the program's may move with each version.
 * @returns its path
 * @throws ScholiaError `disk_full` */
export async function keepSample(dataDir: string): Promise<string> {
  const shipped = await readFile(ownFile(`sample/${sampleName}`), "utf8");
  return keep(dataDir, sampleName, shipped);
}

async function keep(dataDir: string, name: string, text: string): Promise<string> {
  const hash = createHash("sha256").update(text).digest("hex");
  const path = join(copiesDir(dataDir), hash, name);
  await writeWhole(path, text);
  return path;
}

/** Removes a document's file if it is such a copy; a file of the person's own stays. */
export async function removeCopy(dataDir: string, documentId: string, path: string): Promise<void> {
  const folder = join(copiesDir(dataDir), documentId);
  if (path.startsWith(folder + sep)) await rm(folder, { recursive: true, force: true });
}

/** A name that leads nowhere else and that every file system takes. */
export function fileName(given: string): string {
  const last = given.split(/[/\\]/).at(-1) ?? "";
  const plain = last
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
    .replace(/[\u0000-\u001f<>:"|?*]/g, "_")
    .replace(/^\.+/, "_")
    .trim();
  const [stem = "", ending = ""] = /^(.*?)(\.[A-Za-z0-9]{1,10})?$/s.exec(plain)?.slice(1) ?? [];
  return `${[...stem].slice(0, 80).join("") || "document"}${ending}`;
}
