import { engineChoice } from "./engine.ts";
import type { LensSlice, Slice } from "./state.ts";

const samplesShown = 600;

export function createLensSlice({ get, set, link, shows }: Slice): LensSlice {
  const isLensWindow = shows === "lens";
  return {
    isLensWindow,
    lensOpen: isLensWindow,
    lensFull: isLensWindow,
    lensTab: "heads",
    metric: "blockTokens",
    pinnedHead: null,
    asTable: false,
    heads: null,
    curves: null,
    comparedProfile: "none",
    otherHeads: null,
    headsError: null,
    memory: null,
    memoryError: null,
    rates: null,
    estimate: null,
    estimateError: null,
    steps: null,
    stepsState: "idle",
    stepsError: null,
    compared: null,
    toggleLens() {
      if (isLensWindow) return;
      const lensOpen = !get().lensOpen;
      set({ lensOpen, lensFull: false, narrowPane: lensOpen ? "lens" : "chat" });
    },
    showLens: (lensTab) => set({ lensTab, lensOpen: true, narrowPane: "lens" }),
    toggleLensFull: () => set(({ lensFull }) => ({ lensFull: !lensFull })),
    detachLens() {
      get().openWindow("lens");
      set({ lensOpen: false, lensFull: false });
    },
    setMetric: (metric) => set({ metric }),
    pinHead: (pinnedHead) => set({ pinnedHead }),
    toggleTable: () => set(({ asTable }) => ({ asTable: !asTable })),
    async loadHeads() {
      const engine = engineChoice(get().settings);
      const heads = await link.request("heads.list", engine);
      if (!heads.ok) return set({ headsError: heads.error });
      set({ heads: heads.value, headsError: null });
      // Only a calibrated model has curves.
      const curves = await link.request("heads.curves", engine);
      set({ curves: curves.ok ? curves.value : null });
    },
    forgetHeads: () =>
      set({
        heads: null,
        curves: null,
        comparedProfile: "none",
        otherHeads: null,
        pinnedHead: null,
        headsError: null,
      }),
    async compareHeads(comparedProfile) {
      set({ comparedProfile, otherHeads: null });
      if (comparedProfile === "none") return;
      const { profile: _chosen, ...engine } = engineChoice(get().settings);
      const other = await link.request("heads.list", {
        ...engine,
        ...(comparedProfile === "uniform" ? { profile: "uniform" } : {}),
      });
      if (!other.ok) return set({ headsError: other.error });
      if (get().comparedProfile === comparedProfile) set({ otherHeads: other.value });
    },
    async loadMemory() {
      const result = await link.request("memory.map", {});
      if (result.ok) set({ memory: result.value, memoryError: null });
      else set({ memoryError: result.error });
    },
    takeMemory(sample) {
      const { memory } = get();
      // Nobody looks at it yet.
      if (memory === null) return;
      const timeline = [...memory.timeline, sample].slice(-samplesShown);
      set({ memory: { ...memory, timeline } });
    },
    async loadRates() {
      const result = await link.request("rates.list", {});
      if (result.ok) set({ rates: result.value });
    },
    async loadEstimate(choice) {
      const result = await link.request("memory.estimate", {
        ...engineChoice(get().settings),
        ...choice,
      });
      if (result.ok) set({ estimate: result.value, estimateError: null });
      else set({ estimateError: result.error });
    },
    async measureSteps() {
      if (get().stepsState === "measuring") return;
      set({ stepsState: "measuring", stepsError: null });
      const { settings } = get();
      const { budgetTokens } = settings;
      const run = link.open("timing.steps", { ...engineChoice(settings), budgetTokens });
      const result = await run.result();
      set({ stepsState: "idle" });
      if (result.ok) set({ steps: result.value });
      else set({ stepsError: result.error });
    },
    compare(left, right) {
      set({ compared: { left, right } });
      get().showLens("compare");
    },
  };
}
