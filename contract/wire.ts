/** What travels over the channel between a shell and the host. */
import { z } from "zod";
import type { ErrorValue, Result } from "./errors.ts";
import type { MemorySample } from "./memory.ts";
import type { QueueItem } from "./queue.ts";
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

const runId = z.string().min(1).max(64);
const credits = z.int().min(0).max(1024);
/** {@link ToHost} as a window may send it; routes and their inputs are checked by themselves. */
export const toHostSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("request"),
    id: z.int().nonnegative(),
    route: z.string().max(64),
    input: z.unknown(),
  }),
  z.strictObject({
    kind: z.literal("open"),
    runId,
    route: z.string().max(64),
    input: z.unknown(),
    credits,
  }),
  z.strictObject({ kind: z.literal("attach"), runId, credits }),
  z.strictObject({ kind: z.literal("detach"), runId }),
  z.strictObject({ kind: z.literal("stop"), runId }),
  z.strictObject({ kind: z.literal("grant"), runId, credits }),
  z.strictObject({ kind: z.literal("close") }),
]);

export type FromHost =
  | { kind: "result"; id: number; result: Result<unknown> }
  /** In order; the first has this number. */
  | { kind: "frames"; runId: string; seq: number; frames: RunFrame[] }
  | { kind: "event"; event: HostEvent };

/** What the host says unasked. */
export type HostEvent =
  | { kind: "ready"; pid: number }
  | { kind: "exiting"; error: ErrorValue }
  /** Ask for these lists again. With an id: only this document or chat. */
  | { kind: "changed"; what: Changing; id?: string }
  /** The whole queue, whenever something in it moves. */
  | { kind: "queue"; items: QueueItem[] }
  /** What the engine holds, some times a second while it works. */
  | { kind: "memory"; sample: MemorySample }
  /** A run of a chat has begun: other windows may attach. */
  | { kind: "asked"; runId: string; chatId: string; turnId: string }
  /** Something to tell the person that belongs to no run, e.g. that the library was damaged. */
  | { kind: "notice"; message: string };

export type Changing = "documents" | "reads" | "chats" | "models" | "settings";

/** One end of a channel, whatever carries it. Messages are structured clones and arrive in order. */
export interface Port {
  post(message: unknown): void;
  onMessage(listener: (message: unknown) => void): void;
  /** Called once, when the other end is gone or this one was closed. */
  onClose(listener: () => void): void;
  close(): void;
}
