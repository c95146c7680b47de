/** Chats: a tree of turns about one document. A question asked again, or after an edit, becomes
 * another child of the same parent; every path from the root is a conversation. */
import { z } from "zod";
import type { Answer, Mode } from "./answer.ts";
import type { ErrorValue } from "./errors.ts";

/** Chats and turns are named by the host. */
export const rowIdSchema = z.string().regex(/^[0-9a-f-]{1,64}$/);

export interface ChatEntry {
  id: string;
  documentId: string;
  documentTitle: string;
  /** The reader's own, else the first question. */
  title: string;
  /** Chosen pages, as `--pages` takes them; null: all. */
  pages: string | null;
  turns: number;
  startedAt: string;
  lastUse: string;
  /** With a query: what stands around the first place found. */
  excerpt?: string;
}

/** - `waiting`, `writing`: its run is going on; attach to it
 * - `answered`, `stopped` (by the reader; the text so far is kept), `failed`
 * - `interrupted`: the host died or was closed meanwhile; the text so far is kept */
export type TurnState = "waiting" | "writing" | "answered" | "stopped" | "failed" | "interrupted";

export interface Turn {
  id: string;
  parentId: string | null;
  question: string;
  /** The answer's text so far. */
  text: string;
  state: TurnState;
  /** Where the sentences of the text lie, [start, end) in UTF-16 units: citations count them. */
  sentences: { start: number; end: number }[];
  /** The whole answer, once it has ended with one. */
  answer: Answer | null;
  error: ErrorValue | null;
  /** To attach to while it goes on. */
  runId: string | null;
  mode: Mode;
  /** As it was chosen; null: the model's own. The answer's coverage says what was read. */
  budgetTokens: number | null;
  /** Pages that the question was asked of. */
  pages: string | null;
  askedAt: string;
}

export interface Chat extends ChatEntry {
  /** The last turn of the branch that is shown; null in a new chat. */
  shown: string | null;
  /** All branches, in the order of asking. */
  tree: Turn[];
}

/** How an answer's context is shared out, in tokens; said before it is read. */
export interface ContextShare {
  documentTokens: number;
  /** What stands around the document. */
  aroundTokens: number;
  /** Of these, tokens before the document's first page. */
  leadingTokens: number;
  /** Earlier turns. */
  historyTokens: number;
  questionTokens: number;
  /** Room for the answer. */
  answerTokens: number;
  contextTokens: number;
  /** Tokens of each chosen page, in order: they divide the document's strips of a trace. */
  pages: { number: number; tokens: number }[];
}

/** What the heads read of the document while an answer was written: attention over equal parts of
 * the document's tokens, mean over heads. */
export interface ReadMap {
  documentTokens: number;
  pages: { number: number; tokens: number }[];
  bins: number;
  /** [bins] the whole answer; the mean over its steps. */
  whole: Float32Array;
  /** For each sentence of the answer: its characters [start, end) and its strip [bins]. */
  sentences: { start: number; end: number; strip: Float32Array }[];
  /** What each head did; null of an answer of before it was kept. */
  heads: HeadsOfAnswer | null;
}

/** What each head read for an answer. */
export interface HeadsOfAnswer {
  /** [heads] */
  blockTokens: number[];
  /** [heads] kv_blocks per token, the mean over the answer. */
  blocksRead: Float32Array;
  /** Keys and values read per token, all heads. */
  kvBytes: number;
  /** The steps, from 0, at which the mass kept was measured. */
  keptSteps: number[];
  /** [steps][heads] see {@link file://./trace.ts} */
  massKept: Float32Array;
}

export interface ExportedChat {
  /** A file name to offer. */
  name: string;
  text: string;
}
