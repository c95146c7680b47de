import type { MemoryNode } from "../../../contract/memory.ts";

/** The same in both themes: a colour always means the same. */
const colours: Record<MemoryNode["kind"], string> = {
  group: "#7d8590",
  weights: "#3b528b",
  kv: "#21918c",
  kept: "#9fcfcb",
  digests: "#b8de29",
  workspace: "#8a6fb0",
  process: "#7d8590",
  free: "#c9c6be",
};

export const kindColour = (kind: MemoryNode["kind"]): string => colours[kind];
