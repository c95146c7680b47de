// Folders that are made from sources, and made anew only when those have changed.
import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { withLock } from "../host/models/lock.ts";
import { step } from "./report.js";
import { isStamped, writeStamp } from "./stamp.ts";

export interface MadeFolder {
  folder: string;
  /** Of everything that it is made from. */
  hash: string;
  /** As set-up says it, e.g. "Bundling the window". */
  what: string;
  /** @param folder a place beside the real one */
  fill: (folder: string) => Promise<void>;
}

/** Makes the folder unless it was made from just these sources. It appears whole, and two commands that
 * begin at once make it one after the other. */
export async function makeFolder({ folder, hash, what, fill }: MadeFolder): Promise<void> {
  const isNew = () => isStamped(join(folder, "stamp"), hash);
  if (isNew()) return;
  await mkdir(dirname(folder), { recursive: true });
  await withLock(`${folder}.lock`, async () => {
    if (isNew()) return;
    await step(what, async () => {
      const beside = `${folder}.new`;
      await rm(beside, { recursive: true, force: true });
      await fill(beside);
      writeStamp(join(beside, "stamp"), hash);
      await replace(folder, beside);
    });
  });
}

/** Moves are quick: who reads in the meantime meets the old folder or the new one. */
async function replace(folder: string, beside: string): Promise<void> {
  const old = `${folder}.old`;
  await rm(old, { recursive: true, force: true });
  if (existsSync(folder)) await rename(folder, old);
  await rename(beside, folder);
  await rm(old, { recursive: true, force: true });
}
