/** What an answer is: its text, what it rests on, and what was read for it. The shapes are zod
 * values because programs read them from `scholia ask --json`. */
import { z } from "zod";

export const modes = ["ab-sparse", "dense"] as const;
export type Mode = (typeof modes)[number];

/** A rectangle on a page, in points of 1/72 inch from the top left corner of the page as shown. */
export const boxSchema = z.strictObject({
  page: z.int().positive(),
  left: z.number(),
  top: z.number(),
  width: z.number(),
  height: z.number(),
});
export type Box = z.infer<typeof boxSchema>;

/** A passage that the answer rests on.
 * - `from: "quotation"`: words the answer puts in quotation marks, or a whole sentence that it copies;
 *   `verified` says whether the document holds them.
 * - `from: "attention"`: the passage that the model's heads read most while they wrote a sentence;
 *   taken from the document, so it is always verified. */
export const citationSchema = z.strictObject({
  quote: z.string(),
  /** Page of the document, from 1; null for a quotation that is not in it and for text without
   * pages. */
  page: z.int().positive().nullable(),
  verified: z.boolean(),
  from: z.enum(["quotation", "attention"]),
  /** How a quotation was found: letter by letter, in parts, or with a few words different. */
  match: z.enum(["exact", "pieces", "fuzzy"]).optional(),
  /** Characters [start, end) of the text of the chosen pages; null when not found. */
  start: z.int().nonnegative().nullable(),
  end: z.int().nonnegative().nullable(),
  /** Index of the answer's sentence that rests on it, from 0. */
  sentence: z.int().nonnegative(),
  /** How much more attention than the document's average the passage drew; attention only. */
  score: z.number().optional(),
  boxes: z.array(boxSchema),
});
export type Citation = z.infer<typeof citationSchema>;

/** The coverage certificate: what of the document was in the context when the answer was written. */
export const coverageSchema = z.strictObject({
  /** Tokens of the chosen pages, counted with the model's own tokenizer. */
  documentTokens: z.int().nonnegative(),
  /** Of these, tokens found in the sequence that the answer was decoded from. */
  tokensInContext: z.int().nonnegative(),
  /** The chosen pages, as `--pages` takes them, e.g. "1-20,25". */
  pages: z.string(),
  /** Pages of the whole document. */
  documentPages: z.int().nonnegative(),
  /** The document was still being read: only the pages above were in the context. */
  readSoFar: z.literal(true).optional(),
  /** Pages among the chosen ones that gave no text (empty or scanned). */
  pagesWithoutText: z.array(z.int().positive()),
  mode: z.enum(modes),
  /** Tokens that a KV head reads per step on average; null in dense mode, where it reads all. */
  budgetTokens: z.int().positive().nullable(),
  /** Which head profile shared out the budget: a profile's name, or "uniform 32". */
  profile: z.string(),
  kvBytesPerToken: z.number().nonnegative(),
  digestBytesPerToken: z.number().nonnegative(),
  /** What dense decode would have read per token. */
  denseBytesPerToken: z.number().nonnegative(),
});
export type Coverage = z.infer<typeof coverageSchema>;

export const timingSchema = z.strictObject({
  /** Prompt tokens computed for this answer. */
  prefillTokens: z.int().nonnegative(),
  /** Prompt tokens whose KV was found: in memory or on disk. */
  cachedTokens: z.int().nonnegative(),
  cachedInMemory: z.int().nonnegative(),
  cachedOnDisk: z.int().nonnegative(),
  prefillSeconds: z.number().nonnegative(),
  prefillTokensPerSecond: z.number().nonnegative(),
  decodeTokens: z.int().nonnegative(),
  decodeSeconds: z.number().nonnegative(),
  decodeTokensPerSecond: z.number().nonnegative(),
  /** Tokens in the sequence when the answer ended. */
  depth: z.int().nonnegative(),
  /** From the question to the first token of the answer, the model being loaded. */
  firstTokenSeconds: z.number().nonnegative(),
  modelLoadSeconds: z.number().nonnegative(),
  documentSeconds: z.number().nonnegative(),
});
export type Timing = z.infer<typeof timingSchema>;

export const memorySchema = z.strictObject({
  weightsBytes: z.number().nonnegative(),
  kvBytes: z.number().nonnegative(),
  /** KV of past reads; answers of before it was counted have none. */
  kvKeptBytes: z.number().nonnegative().default(0),
  kvPoolBytes: z.number().nonnegative(),
  digestBytes: z.number().nonnegative(),
  workspaceBytes: z.number().nonnegative(),
  freeBytes: z.number().nonnegative(),
});
export type Memory = z.infer<typeof memorySchema>;

export const stopReasons = ["end_of_turn", "max_tokens", "context_full", "cancelled"] as const;
export type StopReason = (typeof stopReasons)[number];

export const answerSchema = z.strictObject({
  answer: z.string(),
  /** Why the answer ended; "cancelled" when the reader stopped it. */
  stop: z.enum(stopReasons),
  citations: z.array(citationSchema),
  coverage: coverageSchema,
  timing: timingSchema,
  memory: memorySchema,
  model: z.strictObject({ name: z.string(), fingerprint: z.string(), device: z.string() }),
  document: z.strictObject({ id: z.string(), path: z.string(), title: z.string() }),
  /** What the reader should know and nothing else says, e.g. that pages hold no text. */
  notices: z.array(z.string()),
});
export type Answer = z.infer<typeof answerSchema>;
