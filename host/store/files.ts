import { mkdir, open, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { ScholiaError } from "../../contract/errors.ts";

/** Bytes of each of these files; a missing one has none. */
export function bytesOf(paths: string[]): Promise<number[]> {
  return Promise.all(
    paths.map((path) =>
      stat(path).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
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
