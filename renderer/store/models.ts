import type { ModelLine } from "../../contract/routes.ts";
import { engineChoice } from "./engine.ts";
import { saidError } from "./saidError.ts";
import type { Download, ModelSlice, Slice } from "./state.ts";

export function createModelSlice({ get, set, link, shell }: Slice): ModelSlice {
  const stops = new Map<string, () => void>();
  const update = (id: string, download: Download | null) =>
    set(({ downloads }) => {
      const { [id]: _, ...others } = downloads;
      return { downloads: download === null ? others : { ...others, [id]: download } };
    });
  return {
    models: null,
    downloads: {},
    checks: null,
    async refreshModels() {
      const result = await link.request("models.list", {});
      if (result.ok) set({ models: result.value });
      else saidError(get(), result.error);
    },
    async download(id) {
      if (stops.has(id)) return;
      const run = link.open("models.get", { id });
      stops.set(id, () => run.stop());
      update(id, { progress: null, error: null });
      for await (const frame of run)
        if (frame.kind === "progress") update(id, { progress: frame.progress, error: null });
      const result = await run.result();
      stops.delete(id);
      const failed = !result.ok && result.error.code !== "cancelled";
      update(id, failed ? { progress: null, error: result.error } : null);
      await get().refreshModels();
    },
    stopDownload: (id) => stops.get(id)?.(),
    async removeModel(id) {
      const result = await link.request("models.remove", { id });
      if (!result.ok) saidError(get(), result.error);
      await get().refreshModels();
    },
    async useModel(model) {
      await get().changeSettings({ model });
      get().forgetPreflight();
      get().forgetHeads();
    },
    async chooseModelFile() {
      const result = await shell.call("models.choose", {});
      if (!result.ok) return saidError(get(), result.error);
      if (result.value !== null) await get().useModel(result.value);
    },
    async check() {
      set({ checks: null });
      const result = await link.request("host.check", engineChoice(get().settings));
      if (result.ok) set({ checks: result.value });
      else saidError(get(), result.error);
    },
    async diagnostics() {
      const result = await link.request("host.diagnostics", {});
      if (result.ok) return result.value.text;
      saidError(get(), result.error);
      return null;
    },
  };
}

/** The catalog's line of the model that is used now; null for a file of one's own. */
export function modelInUse(models: readonly ModelLine[] | null, chosen: string | null) {
  if (models === null) return null;
  return models.find((line) => (chosen === null ? line.isDefault : line.id === chosen)) ?? null;
}
