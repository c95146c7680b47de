import type { FetchProgress } from "../host/models/fetchModel.ts";
import { duration, megabytes, step } from "./report.js";

// The host's modules need the npm packages, so they are imported when those are installed.

/** Fetches a model of the catalog unless it is here. */
export async function fetchWithProgress(id: string): Promise<void> {
  const { findModel, isDownloaded, weightBytes } = await import("../host/models/catalog.ts");
  const { fetchModel } = await import("../host/models/fetchModel.ts");
  if (isDownloaded(id)) return;
  const model = findModel(id);
  const size = megabytes(weightBytes(model));
  await step(`Fetching the model ${model.name} (once, ${size})`, (progress) =>
    fetchModel(id, { onProgress: progressText(progress) }),
  );
}

function progressText(show: (text: string) => void): (progress: FetchProgress) => void {
  const started = performance.now();
  let first: number | undefined;
  return ({ phase, doneBytes, totalBytes }) => {
    if (phase === "waiting") return show("another process is fetching it; waiting");
    const percent = Math.floor((100 * doneBytes) / totalBytes);
    if (phase === "verify") return show(`checking the file, ${percent} %`);
    first ??= doneBytes;
    const elapsed = performance.now() - started;
    const left = ((totalBytes - doneBytes) / Math.max(1, doneBytes - first)) * elapsed;
    const rest = doneBytes > first ? `, ${duration(left)} left` : "";
    return show(`${megabytes(doneBytes)} of ${megabytes(totalBytes)} (${percent} %)${rest}`);
  };
}
