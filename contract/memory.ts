/** Where the memory goes: a tree whose leaves are counted bytes. */

/** Every node is as large as its children together. */
export interface MemoryNode {
  /** Unique among its siblings, for people, e.g. "layer 3" or "attn_q". */
  name: string;
  kind: "group" | "weights" | "kv" | "digests" | "workspace" | "process" | "free";
  bytes: number;
  children?: MemoryNode[];
}

export interface MemoryMap {
  /** Null while no model is loaded. */
  model: { name: string; fingerprint: string; device: string } | null;
  /** What the machine has, everything included. */
  root: MemoryNode;
  /** Of this host's process, as the system counts it. */
  residentBytes: number;
  /** The last minutes, oldest first. */
  timeline: MemorySample[];
}

export interface MemorySample {
  /** ISO 8601, UTC. */
  at: string;
  weightsBytes: number;
  kvBytes: number;
  digestBytes: number;
  workspaceBytes: number;
  freeBytes: number;
  /** What the engine was doing. */
  doing: "idle" | "prefill" | "decode";
}

/** A rate measured in ordinary use on this machine. */
export interface MeasuredRate {
  model: { name: string; fingerprint: string };
  device: string;
  what: "prefill" | "ab-sparse" | "dense";
  /** Tokens in the context: for prefill in the middle of what was read, for decode at the end. */
  depth: number;
  budgetTokens: number | null;
  tokensPerSecond: number;
  /** Tokens that the rate rests on. */
  tokens: number;
  measuredAt: string;
}
