/** The host itself, models, settings. */
import { rm } from "node:fs/promises";
import type { CheckLine, RequestInput } from "../../contract/routes.ts";
import type { RequestHandlers, RunHandlers } from "../channel.ts";
import { diagnosticsText } from "../diagnostics.ts";
import { checkMachine } from "../doctor.ts";
import { findModel, isDownloaded, modelPath } from "../models/catalog.ts";
import { fetchModel } from "../models/fetchModel.ts";
import { listModels } from "../models/listModels.ts";
import { downloadProgress } from "../models/modelFile.ts";
import type { Library } from "../store/library.ts";
import type { Parts } from "./parts.ts";

export function machineRequests(parts: Parts) {
  const { library, queue, log, version, dataDir, server, changed, makeRoom } = parts;
  return {
    "host.hello": async () => ({ version, pid: process.pid }),
    "host.check": (settings) => checkMachine(settings, dataDir),
    "host.diagnostics": async () => {
      const settings = library.settings.get();
      const { reads, bytes } = await library.reads.store(null);
      return {
        text: diagnosticsText({
          version,
          settings,
          checks: await checksOf(dataDir, settings),
          counts: {
            documents: (await library.documents.list()).length,
            reads: reads.length,
            readBytes: bytes,
            chats: library.chats.list().length,
            queue: queue.list().length,
          },
          log,
        }),
      };
    },
    "models.list": () => listModels(),
    "models.remove": async ({ id }) => {
      findModel(id);
      if (isDownloaded(id)) await rm(modelPath(id));
      changed("models");
      return null;
    },
    "settings.get": async () => library.settings.get(),
    "settings.set": async (changes) => {
      const settings = library.settings.set(given(changes));
      changed("settings");
      if (changes.diskLimitBytes !== undefined) {
        await makeRoom([]);
        changed("reads");
      }
      return settings;
    },
    "runs.list": async () => server().runs(),
  } satisfies Partial<RequestHandlers>;
}

export function machineRuns({ changed }: Parts) {
  return {
    "models.get": async ({ id }, sink) => {
      const { name } = findModel(id);
      let bytes = 0;
      const report = downloadProgress(name, (progress) => sink.progress(progress));
      const path = await fetchModel(id, {
        signal: sink.signal,
        onProgress: (progress) => {
          bytes = progress.totalBytes;
          report(progress);
        },
      });
      changed("models");
      return { id, path, bytes };
    },
  } satisfies Partial<RunHandlers>;
}

/** The fields that were sent. */
function given(changes: RequestInput<"settings.set">) {
  return Object.fromEntries(
    Object.entries(changes).filter(([, value]) => value !== undefined),
  ) as Parameters<Library["settings"]["set"]>[0];
}

function checksOf(
  dataDir: string,
  { model, profile, device, threads }: ReturnType<Library["settings"]["get"]>,
): Promise<CheckLine[]> {
  return checkMachine(
    {
      device,
      threads,
      ...(model === null ? {} : { model }),
      ...(profile === null ? {} : { profile }),
    },
    dataDir,
  );
}
