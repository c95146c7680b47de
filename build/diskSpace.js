import { existsSync } from "node:fs";
import fs from "node:fs/promises";
import { dirname } from "node:path";
import { megabytes, SetupError } from "./report.js";

/**
 * Fails when the disk of `path` (which need not exist yet) has fewer than `bytes` free.
 * @param {string} path
 * @param {number} bytes
 * @param {string} purpose what the room is for, as the sentence names it
 */
export async function needDiskSpace(path, bytes, purpose) {
  if (!fs.statfs) return; // Node before 18.15, which only has to bring a newer one
  let folder = path;
  while (!existsSync(folder)) folder = dirname(folder);
  const { bavail, bsize } = await fs.statfs(folder);
  if (bavail * bsize >= bytes) return;
  throw new SetupError(
    `Not enough disk space for ${purpose}: ${megabytes(bytes)} are needed in ${folder} and ${megabytes(bavail * bsize)} are free; make room there, or set SCHOLIA_CACHE to a folder on a larger disk.`,
  );
}
