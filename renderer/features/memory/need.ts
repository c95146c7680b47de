import type { MemoryEstimate, MemoryNode } from "../../../contract/memory.ts";

export interface Need {
  bytes: number;
  kvBytes: number;
  digestBytes: number;
  parts: { kind: MemoryNode["kind"]; bytes: number }[];
}

/** What a model takes with a context full of so many tokens. */
export function needAt(estimate: MemoryEstimate, contextTokens: number): Need {
  const kvBytes = contextTokens * estimate.kvBytesPerToken;
  const digestBytes = contextTokens * estimate.digestBytesPerToken;
  const parts: Need["parts"] = [
    { kind: "weights", bytes: estimate.weightsBytes },
    { kind: "workspace", bytes: estimate.workspaceBytes ?? 0 },
    { kind: "kv", bytes: kvBytes },
    { kind: "digests", bytes: digestBytes },
  ];
  const bytes = parts.reduce((sum, part) => sum + part.bytes, 0);
  return { bytes, kvBytes, digestBytes, parts };
}
