import { engineChoice } from "./engine.ts";
import type { PreflightSlice, PreflightState, Slice } from "./state.ts";

export function createPreflightSlice({ get, set, link }: Slice): PreflightSlice {
  let running: { stop(): void } | null = null;
  return {
    preflight: null,
    pagesToRead: "",
    setPagesToRead: (pages) => set({ pagesToRead: pages }),
    async countPreflight() {
      const { document, settings, pagesToRead } = get();
      if (document === null) return;
      running?.stop();
      const pages = pagesToRead.trim();
      const state: PreflightState = {
        documentId: document.id,
        pages,
        progress: null,
        value: null,
        error: null,
      };
      const run = link.open("document.preflight", {
        documentId: document.id,
        ...(pages === "" ? {} : { pages }),
        ...engineChoice(settings),
        budgetTokens: settings.budgetTokens,
        maxTokens: settings.maxTokens,
      });
      running = run;
      set({ preflight: state });
      const update = (change: Partial<PreflightState>) => {
        if (running === run) set({ preflight: { ...state, ...change } });
      };
      for await (const frame of run)
        if (frame.kind === "progress") update({ progress: frame.progress });
      const result = await run.result();
      if (result.ok) update({ value: result.value });
      else update({ error: result.error });
    },
    forgetPreflight() {
      running?.stop();
      running = null;
      set({ preflight: null, pagesToRead: "" });
    },
  };
}
