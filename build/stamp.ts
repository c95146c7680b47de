import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";

/** A hash of the names and contents of files and of everything inside folders, in a fixed order. */
export function hashFiles(
  paths: readonly string[],
  base: string,
  more: readonly string[] = [],
): string {
  const hash = createHash("sha256");
  for (const path of paths.flatMap(filesIn).sort()) {
    const content = readFileSync(path);
    hash.update(`${relative(base, path)}\0${content.length}\0`).update(content);
  }
  for (const text of more) hash.update(`${text}\0`);
  return hash.digest("hex");
}

function filesIn(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path).flatMap((name) => filesIn(join(path, name)));
}

/** Whether the stamp at `path` says that what it stands beside was made from `hash`. */
export const isStamped = (path: string, hash: string): boolean =>
  existsSync(path) && readFileSync(path, "utf8") === hash;

export const writeStamp = (path: string, hash: string): void => writeFileSync(path, hash);
