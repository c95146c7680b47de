/** The queue of documents to be read: one engine reads one at a time. */
import type { ErrorValue } from "./errors.ts";

/** - `waiting`: for its turn
 * - `reading`: the engine is at it
 * - `yielding`: paused for a question, goes on by itself
 * - `paused`: by the reader; what is read is kept, also over a restart
 * - `done`, `failed`: over, until it is dismissed */
export type QueueState = "waiting" | "reading" | "yielding" | "paused" | "done" | "failed";

export interface QueueItem {
  id: string;
  documentId: string;
  title: string;
  /** As `--pages` takes them. */
  pages: string;
  /** Catalog id or path of the model; null: the default one. */
  model: string | null;
  state: QueueState;
  doneTokens: number;
  /** Null until the text is tokenised. */
  totalTokens: number | null;
  /** Of the done ones, found in memory or on disk. */
  cachedTokens: number;
  /** The last chunk's, tokens per second; null before the first. */
  rate: number | null;
  secondsLeft: number | null;
  /** Pages that are read to their end, as `--pages` takes them; null before the first. */
  pagesRead: string | null;
  /** Why it failed, or what a reader should know. */
  error: ErrorValue | null;
  addedAt: string;
}
