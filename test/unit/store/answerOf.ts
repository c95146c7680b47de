import type { Answer } from "../../../contract/answer.ts";

export const documentId = "d".repeat(64);

export function answerOf(text: string, change: Partial<Answer> = {}): Answer {
  return {
    answer: text,
    stop: "end_of_turn",
    citations: [],
    coverage: {
      documentTokens: 90,
      tokensInContext: 90,
      pages: "1-3",
      documentPages: 3,
      pagesWithoutText: [],
      mode: "ab-sparse",
      budgetTokens: 2048,
      profile: "uniform 32",
      kvBytesPerToken: 1,
      digestBytesPerToken: 1,
      denseBytesPerToken: 2,
    },
    timing: {
      prefillTokens: 1,
      cachedTokens: 0,
      cachedInMemory: 0,
      cachedOnDisk: 0,
      prefillSeconds: 1,
      prefillTokensPerSecond: 1,
      decodeTokens: 40,
      decodeSeconds: 1,
      decodeTokensPerSecond: 40,
      depth: 140,
      firstTokenSeconds: 1,
      modelLoadSeconds: 0,
      documentSeconds: 0,
    },
    memory: {
      weightsBytes: 1,
      kvBytes: 1,
      kvKeptBytes: 1,
      kvPoolBytes: 1,
      digestBytes: 1,
      workspaceBytes: 1,
      freeBytes: 1,
    },
    model: { name: "m", fingerprint: "f", device: "cpu" },
    document: { id: documentId, path: "/a.txt", title: "A" },
    notices: [],
    ...change,
  };
}
