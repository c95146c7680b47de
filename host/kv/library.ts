/** The library: what is known of each document that was read. A manifest is written beside its place
 * and renamed, so that it is whole whenever a process dies. The KV itself lies in the engine's
 * store; losing a manifest loses no work, and a manifest of files that are gone is only a list. */
import { mkdir, open, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { z } from "zod";
import { ScholiaError } from "../../contract/errors.ts";

const readSchema = z.strictObject({
  /** Name of the read in the store: the hash chain's key at its end. */
  key: z.string(),
  model: z.strictObject({ name: z.string(), fingerprint: z.string() }),
  /** As `--pages` takes them. */
  pages: z.string(),
  chunkTokens: z.int().positive(),
  tokens: z.int().nonnegative(),
  documentTokens: z.int().nonnegative(),
  complete: z.boolean(),
  /** Run files, in the folder `reads/<model>/`. */
  runs: z.array(z.string()),
  bytes: z.number().nonnegative(),
  lastUse: z.iso.datetime(),
});
export type LibraryRead = z.infer<typeof readSchema>;

const manifestSchema = z.strictObject({
  version: z.literal(1),
  document: z.strictObject({
    id: z.string(),
    path: z.string(),
    title: z.string(),
    kind: z.string(),
    pages: z.int().nonnegative(),
  }),
  reads: z.array(readSchema),
});
export type Manifest = z.infer<typeof manifestSchema>;

/** Where the engine keeps the KV of reads made with this model. */
export function storeDir(dataDir: string, fingerprint: string): string {
  return join(dataDir, "reads", fingerprint.slice(0, 16));
}

export function manifestPath(dataDir: string, documentId: string): string {
  return join(dataDir, "library", `${documentId}.json`);
}

/** @returns null when there is none, or none that can be understood: it is then written anew. */
export async function loadManifest(dataDir: string, documentId: string): Promise<Manifest | null> {
  try {
    const text = await readFile(manifestPath(dataDir, documentId), "utf8");
    return manifestSchema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

/** Enters a read in its document's manifest, in place of an earlier entry of the same pages, model
 * and settings. */
export async function enterRead(
  dataDir: string,
  document: Manifest["document"],
  read: LibraryRead,
): Promise<void> {
  const known = await loadManifest(dataDir, document.id);
  const others = (known?.reads ?? []).filter((other) => !sameRead(other, read));
  await writeWhole(
    manifestPath(dataDir, document.id),
    `${JSON.stringify({ version: 1, document, reads: [...others, read] } satisfies Manifest, null, 2)}\n`,
  );
}

function sameRead(a: LibraryRead, b: LibraryRead): boolean {
  return (
    a.pages === b.pages &&
    a.chunkTokens === b.chunkTokens &&
    a.model.fingerprint === b.model.fingerprint
  );
}

/** Writes beside the file and renames: whoever reads it sees the old text or the new one.
 * @throws ScholiaError `disk_full`; else what the file system says */
export async function writeWhole(path: string, text: string): Promise<void> {
  const beside = `${path}.${process.pid}.tmp`;
  try {
    await mkdir(dirname(path), { recursive: true });
    const file = await open(beside, "w");
    await file.writeFile(text);
    await file.sync();
    await file.close();
    await rename(beside, path);
  } catch (error) {
    await rm(beside, { force: true });
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    throw new ScholiaError(
      "disk_full",
      `The disk of ${dirname(path)} is full. Make room there, or name another folder.`,
    );
  }
}

/** Bytes of these files together; missing ones count nothing. */
export async function bytesOf(paths: string[]): Promise<number> {
  const sizes = await Promise.all(
    paths.map((path) =>
      stat(path).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
  );
  return sizes.reduce((total, size) => total + size, 0);
}
