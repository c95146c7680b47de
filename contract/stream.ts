/** Frames of a run: what a long call reports while it works. A run has a life of its own: it is
 * opened, watched by whoever attaches, and ends with exactly one terminal frame. */
import type { BenchRow } from "./bench.ts";
import type { ContextShare } from "./chats.ts";
import type { ErrorValue } from "./errors.ts";

/** The flow's six words, and what happens to a model before it. */
export type Phase =
  | "model"
  | "document"
  | "tokens"
  | "prefill"
  | "kv"
  | "decode"
  | "answer"
  | "download";

export interface Progress {
  phase: Phase;
  done: number;
  total: number;
  unit: "tokens" | "bytes" | "pages" | "texts" | "runs" | "percent";
  /** Seconds spent so far. */
  seconds: number;
  /** Units per second, lately; null until measured. */
  rate: number | null;
  /** An estimate from the rate; null until measured. */
  secondsLeft: number | null;
  /** What is being worked on, e.g. a file's name. */
  label?: string;
}

/** What a run reports. Seq counts every frame of a run from 1, dropped ones excluded. */
export type RunFrame =
  | { kind: "progress"; progress: Progress }
  /** Something the reader should know: a fallback, what was found in the document. */
  | { kind: "notice"; message: string }
  /** Which turn of which chat the answer becomes. */
  | { kind: "turn"; chatId: string; turnId: string }
  /** What stands in the context; said once it is counted. */
  | { kind: "context"; context: ContextShare }
  | { kind: "text"; text: string }
  /** One decode step, see {@link file://./trace.ts}; `dropped` counts those left out before it. */
  | { kind: "trace"; trace: Uint8Array; dropped: number }
  | { kind: "row"; row: BenchRow }
  /** Everything so far, for one who attaches late or missed a frame. */
  | {
      kind: "replay";
      text: string;
      notices: string[];
      rows: BenchRow[];
      progress: Progress | null;
      turn: { chatId: string; turnId: string } | null;
      context: ContextShare | null;
    }
  | TerminalFrame;

export type TerminalFrame =
  | { kind: "done"; value: unknown }
  | { kind: "failed"; error: ErrorValue };

export function isTerminal(frame: RunFrame): frame is TerminalFrame {
  return frame.kind === "done" || frame.kind === "failed";
}
