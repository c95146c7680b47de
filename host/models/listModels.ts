import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import type { ModelLine } from "../../contract/routes.ts";
import { downloadsDir } from "./cache.ts";
import { catalog, isDownloaded, modelPath, weightBytes } from "./catalog.ts";
import { defaultModel, fitsMemory, thisMachine } from "./defaultModel.ts";

/** The catalog, and what of it is on this machine. */
export async function listModels(): Promise<ModelLine[]> {
  const chosen = await defaultModel().catch(() => null);
  const begun = existsSync(downloadsDir()) ? await readdir(downloadsDir()) : [];
  return catalog.models.map((model) => {
    const isHere = isDownloaded(model.id);
    const isBegun = begun.some(
      (name) => name.startsWith(`${model.id}.`) && !name.endsWith(".lock"),
    );
    return {
      id: model.id,
      name: model.name,
      licence: model.licence,
      bytes: weightBytes(model),
      contextTokens: model.contextTokens,
      state: isHere ? "ready" : isBegun ? "partial" : "absent",
      path: isHere ? modelPath(model.id) : null,
      isDefault: chosen?.model.id === model.id,
      fitsMemory: fitsMemory(model, thisMachine()),
    };
  });
}
