/** What travels over the channel between a shell and the host. */
import type { ErrorValue, Result } from "./errors.ts";
import type { RequestRoute, RunRoute } from "./routes.ts";
import type { RunFrame } from "./stream.ts";

export type ToHost =
  | { kind: "request"; id: number; route: RequestRoute; input: unknown }
  | { kind: "open"; runId: string; route: RunRoute; input: unknown; credits: number }
  | { kind: "attach"; runId: string; credits: number }
  | { kind: "detach"; runId: string }
  | { kind: "stop"; runId: string }
  /** Room for this many more trace frames; other frames need none. */
  | { kind: "grant"; runId: string; credits: number }
  | { kind: "close" };

export type FromHost =
  | { kind: "result"; id: number; result: Result<unknown> }
  | { kind: "frame"; runId: string; seq: number; frame: RunFrame }
  | { kind: "event"; event: HostEvent };

/** What the host says unasked. */
export type HostEvent = { kind: "ready"; pid: number } | { kind: "exiting"; error: ErrorValue };

/** One end of a channel, whatever carries it. Messages are structured clones and arrive in order. */
export interface Port {
  post(message: unknown): void;
  onMessage(listener: (message: unknown) => void): void;
  /** Called once, when the other end is gone or this one was closed. */
  onClose(listener: () => void): void;
  close(): void;
}
