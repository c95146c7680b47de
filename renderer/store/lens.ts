import type { ErrorValue } from "../../contract/errors.ts";
import type { HeadCurves, HeadTable } from "../../contract/heads.ts";
import type { MeasuredRate, MemoryMap } from "../../contract/memory.ts";
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
  headsError: ErrorValue | null;
  memory: MemoryMap | null;
  memoryError: ErrorValue | null;
  rates: MeasuredRate[] | null;
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
  loadMemory(): Promise<void>;
  loadRates(): Promise<void>;
  compare(left: string, right: string): void;
}

export const lensTabs = ["heads", "memory", "timing", "compare"] as const;
export type LensTab = (typeof lensTabs)[number];

export const headMetrics = [
  "blockTokens",
  "budgetShare",
  "outputError",
  "recall",
  "sensitivity",
  "errorSaved",
  "bytesRead",
  "blocksRead",
] as const;
export type HeadMetric = (typeof headMetrics)[number];

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
    headsError: null,
    memory: null,
    memoryError: null,
    rates: null,
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
    forgetHeads: () => set({ heads: null, curves: null, pinnedHead: null, headsError: null }),
    async loadMemory() {
      const result = await link.request("memory.map", {});
      if (result.ok) set({ memory: result.value, memoryError: null });
      else set({ memoryError: result.error });
    },
    async loadRates() {
      const result = await link.request("rates.list", {});
      if (result.ok) set({ rates: result.value });
    },
    compare(left, right) {
      set({ compared: { left, right } });
      get().showLens("compare");
    },
  };
}
