import type { ErrorValue } from "../../contract/errors.ts";
import type { HeadCurves, HeadTable } from "../../contract/heads.ts";
import type {
  MeasuredRate,
  MemoryEstimate,
  MemoryMap,
  MemorySample,
} from "../../contract/memory.ts";
import type { StepTimings } from "../../contract/timing.ts";
import type { Slice } from "./app.ts";
import { engineChoice } from "./engine.ts";

/** What the machine does: heads, memory, timing, answers compared. */
export interface LensSlice {
  /** Whether this window is the lens and nothing else. */
  isLensWindow: boolean;
  lensOpen: boolean;
  lensFull: boolean;
  lensTab: LensTab;
  metric: HeadMetric;
  /** The head whose details are shown; null: none. */
  pinnedHead: number | null;
  /** Shows numbers in a table instead of the map. */
  asTable: boolean;
  heads: HeadTable | null;
  curves: HeadCurves | null;
  /** Which profile the map is compared with. */
  comparedProfile: ComparedProfile;
  /** The heads of that profile; null while the map stands alone. */
  otherHeads: HeadTable | null;
  headsError: ErrorValue | null;
  memory: MemoryMap | null;
  memoryError: ErrorValue | null;
  rates: MeasuredRate[] | null;
  /** What the model that is thought of would need. */
  estimate: MemoryEstimate | null;
  estimateError: ErrorValue | null;
  /** Where the time of a step goes; null until it was measured. */
  steps: StepTimings | null;
  stepsState: "idle" | "measuring";
  stepsError: ErrorValue | null;
  /** Two turns of the chat to stand side by side. */
  compared: { left: string; right: string } | null;
  toggleLens(): void;
  showLens(tab: LensTab): void;
  toggleLensFull(): void;
  /** Moves the lens out of the drawer into a window of its own. */
  detachLens(): void;
  setMetric(metric: HeadMetric): void;
  pinHead(head: number | null): void;
  toggleTable(): void;
  loadHeads(): Promise<void>;
  forgetHeads(): void;
  compareHeads(profile: ComparedProfile): Promise<void>;
  loadMemory(): Promise<void>;
  /** The engine says what it holds while it works. */
  takeMemory(sample: MemorySample): void;
  loadRates(): Promise<void>;
  /** Absent: as in the settings. */
  loadEstimate(choice: { model?: string; profile?: string }): Promise<void>;
  measureSteps(): Promise<void>;
  compare(left: string, right: string): void;
}

export const lensTabs = ["heads", "memory", "timing", "compare"] as const;
export type LensTab = (typeof lensTabs)[number];

/** "own": the profile that the model has by itself, when another was chosen. */
export const comparedProfiles = ["none", "uniform", "own"] as const;
export type ComparedProfile = (typeof comparedProfiles)[number];

export const headMetrics = [
  "blockTokens",
  "budgetShare",
  "outputError",
  "recall",
  "retrievalScore",
  "sensitivity",
  "errorSaved",
  "bytesRead",
  "blocksRead",
  "massKept",
] as const;
export type HeadMetric = (typeof headMetrics)[number];

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
