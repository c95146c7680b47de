import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach } from "vitest";
import { type Library, openLibrary } from "../../../host/store/library.ts";

export interface DataFolder {
  readonly path: string;
  /** Opens the folder's library; it is closed after the test. */
  open(): Promise<Library>;
  write(name: string, text: string): Promise<string>;
}

/** A data folder of its own for each test. */
export function dataFolder(): DataFolder {
  let path = "";
  const opened: Library[] = [];
  beforeEach(async () => {
    path = await mkdtemp(join(tmpdir(), "scholia-data-"));
  });
  afterEach(async () => {
    for (const library of opened.splice(0)) library.close();
    await rm(path, { recursive: true, force: true });
  });
  return {
    get path() {
      return path;
    },
    async open() {
      const library = await openLibrary(path);
      opened.push(library);
      return library;
    },
    async write(name, text) {
      const file = join(path, name);
      await writeFile(file, text);
      return file;
    },
  };
}
