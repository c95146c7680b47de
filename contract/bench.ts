/** Rows of `scholia bench --json`. */
import { z } from "zod";
import { modes } from "./answer.ts";

export const benchRowSchema = z.strictObject({
  what: z.enum(["prefill", "decode"]),
  mode: z.enum(modes),
  /** Prefill: tokens read from an empty context. Decode: tokens in the context at the first step. */
  depth: z.int().positive(),
  /** Median over the repetitions. */
  tokensPerSecond: z.number().positive(),
  /** libllama in the same process on the same file; null without `--peer`. */
  peerTokensPerSecond: z.number().positive().nullable(),
  ratio: z.number().positive().nullable(),
  /** Keys, values and digests read per decoded token; null for prefill. */
  bytesPerToken: z.number().nonnegative().nullable(),
  repetitions: z.int().positive(),
});
export type BenchRow = z.infer<typeof benchRowSchema>;
