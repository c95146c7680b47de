/** Measurements that are kept, so that one that was stopped goes on from there. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { z } from "zod";
import { addonPath } from "../engine/addon.ts";
import type { Engine } from "../engine/engine.ts";
import { writeWhole } from "../store/files.ts";
import type { ReadingMode } from "./readingModes.ts";

/** The file of a measurement, by all that it depends on beside engine, model and device. */
export type FileOf = (...on: readonly unknown[]) => string;

/** Another build of the engine rounds otherwise: what it measured has other files. */
export async function keptFiles(folder: string, { model, device }: Engine): Promise<FileOf> {
  const build = createHash("sha256")
    .update(await readFile(addonPath))
    .digest("hex");
  return (...on) => {
    const name = createHash("sha256").update(JSON.stringify([build, model.fingerprint, device]));
    for (const part of on) name.update(part instanceof Uint8Array ? part : JSON.stringify(part));
    return join(folder, `${name.digest("hex")}.json`);
  };
}

/** What a measurement depends on in a mode: not what it is called. */
export const readingOf = ({ mode, budgetTokens, profile }: ReadingMode): unknown[] => [
  mode,
  budgetTokens,
  profile.digest,
  profile.digestBits ?? 4,
  Array.from(profile.blockTokens),
  Array.from(profile.budgetShare),
];

/** @returns null where nothing is kept, or nothing that can be read */
export async function readKept<Value>(
  path: string | null,
  schema: z.ZodType<Value>,
): Promise<Value | null> {
  if (path === null) return null;
  try {
    return schema.parse(JSON.parse(await readFile(path, "utf8")));
  } catch {
    return null;
  }
}

export const keep = (path: string, measured: unknown): Promise<void> =>
  writeWhole(path, JSON.stringify(measured));
