/** The GGUF that `--model` means. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { ScholiaError } from "../../contract/errors.ts";
import type { Progress } from "../../contract/stream.ts";
import { catalog, findModel, isDownloaded, type Model, modelPath } from "./catalog.ts";
import { defaultModel } from "./defaultModel.ts";
import { type FetchProgress, fetchModel } from "./fetchModel.ts";

export interface ModelFile {
  path: string;
  /** The catalog's entry; null for a file of the person's own. */
  entry: Model | null;
  /** Why this one is fetched, when none was named. */
  reason: string | null;
}

export interface ModelFileOptions {
  /** Fetch a model of the catalog that is not here yet. */
  fetch: boolean;
  onProgress?: (progress: Progress) => void;
  signal?: AbortSignal;
}

/** @param name a catalog id, the path of a GGUF, or undefined for the best of the catalog here
 * @throws ScholiaError `model_unknown`, `model_not_found`, and what a download throws */
export async function modelFile(
  name: string | undefined,
  options: ModelFileOptions,
): Promise<ModelFile> {
  if (name === undefined) {
    const { model, downloaded, reason } = await defaultModel();
    const path = await catalogFile(model, options);
    return { path, entry: model, reason: downloaded ? null : reason };
  }
  const known = catalog.models.find(({ id }) => id === name);
  if (known !== undefined) {
    return { path: await catalogFile(known, options), entry: known, reason: null };
  }
  const path = resolve(name);
  if (existsSync(path)) return { path, entry: null, reason: null };
  // A word without a folder or an ending was meant as an id.
  if (!/[/\\]|\.gguf$/i.test(name)) findModel(name);
  throw new ScholiaError("model_not_found", `There is no model file ${path}.`);
}

async function catalogFile(model: Model, options: ModelFileOptions): Promise<string> {
  if (isDownloaded(model.id)) return modelPath(model.id);
  if (!options.fetch) {
    throw new ScholiaError(
      "model_not_found",
      `${model.name} (${model.id}) is not here yet. Fetch it first.`,
    );
  }
  const { onProgress, signal } = options;
  return await fetchModel(model.id, {
    ...(signal === undefined ? {} : { signal }),
    ...(onProgress === undefined ? {} : { onProgress: downloadProgress(model.name, onProgress) }),
  });
}

/** A fetch's progress as every other progress: with rate and time left. */
export function downloadProgress(
  label: string,
  onProgress: (progress: Progress) => void,
): (progress: FetchProgress) => void {
  const started = performance.now();
  let phase = "";
  let first = { at: started, bytes: 0 };
  return ({ phase: now, doneBytes, totalBytes }) => {
    if (now !== phase) first = { at: performance.now(), bytes: doneBytes };
    phase = now;
    const elapsed = (performance.now() - first.at) / 1000;
    const rate = elapsed > 1 ? (doneBytes - first.bytes) / elapsed : null;
    const what = { waiting: " (another process fetches it)", download: "", verify: " (checking)" };
    onProgress({
      phase: "download",
      done: doneBytes,
      total: totalBytes,
      unit: "bytes",
      seconds: (performance.now() - started) / 1000,
      rate,
      secondsLeft: rate !== null && rate > 0 ? (totalBytes - doneBytes) / rate : null,
      label: `${label}${what[now]}`,
    });
  };
}
