/** Where the memory goes: a tree whose leaves are counted bytes. */

/** Every node is as large as its children together. */
export interface MemoryNode {
  /** Unique among its siblings, for people, e.g. "layer 3" or "attn_q". */
  name: string;
  kind: "group" | "weights" | "kv" | "kept" | "digests" | "workspace" | "process" | "free";
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
  /** KV of past reads, kept to be found again. */
  kvKeptBytes: number;
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

/** What a model would need, as the numbers of the pre-flight have it: bytes for each token of context
 * besides what does not grow. */
export interface MemoryEstimate {
  model: { name: string; fingerprint: string; contextTokens: number };
  profile: string;
  /** As the engine holds them; of a model that is not open, as its file has them. */
  weightsBytes: number;
  /** Null: the model is not open, and it is not known yet. */
  workspaceBytes: number | null;
  kvBytesPerToken: number;
  digestBytesPerToken: number;
  /** Free, and what the open engine would give back. */
  availableBytes: number;
}
