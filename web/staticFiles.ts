/** The bundled window, read once: only what is in the folder when the server starts can be asked for. */
import { readdir, readFile } from "node:fs/promises";
import { extname, join, sep } from "node:path";
import { ScholiaError } from "../contract/errors.ts";
import { mimeTypes } from "../contract/windowFiles.ts";

export interface StaticFile {
  bytes: Buffer;
  type: string;
  /** Its name changes with its bytes. */
  isHashed: boolean;
}

/** @returns files by path below the root; "" is index.html
 * @throws ScholiaError `not_found` when the window was not bundled */
export async function readStaticFiles(folder: string): Promise<Map<string, StaticFile>> {
  const names = await readdir(folder, { recursive: true }).catch(() => [] as string[]);
  const files = new Map<string, StaticFile>();
  for (const name of names) {
    const type = mimeTypes[extname(name)];
    if (type === undefined) continue;
    const isHashed = /-[\w-]{8,}\.\w+$/.test(name);
    files.set(name.split(sep).join("/"), {
      bytes: await readFile(join(folder, name)),
      type,
      isHashed,
    });
  }
  const index = files.get("index.html");
  if (index === undefined) {
    throw new ScholiaError("not_found", "The window is not bundled yet: npm run window does it.");
  }
  return files.set("", index);
}
