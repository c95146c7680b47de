/** What answers each route. */
import type { RequestHandlers, RunHandlers } from "./channel.ts";
import { type LogLine, onEngineLog } from "./engine/engine.ts";
import { chatRequests, chatRuns } from "./handlers/chats.ts";
import { documentRequests, documentRuns } from "./handlers/documents.ts";
import { machineRequests, machineRuns } from "./handlers/machine.ts";
import { measureRequests, measureRuns } from "./handlers/measures.ts";
import { type HostOptions, makeParts } from "./handlers/parts.ts";
import type { Library } from "./store/library.ts";

export interface Host {
  /** What a person should know of the opening of the library. */
  notices: readonly string[];
  requests: RequestHandlers;
  runs: RunHandlers;
  /** Files that a window may name. */
  windowFiles(): string[];
  /** Reads what waits in the queue; called when a window is there to show it. */
  startQueue(): void;
  /** Ends the reading of the queue at its next chunk; it goes on with the next host. */
  stopQueue(): Promise<void>;
  /** Frees the engine and closes the library. */
  close(): Promise<void>;
}

const logLinesKept = 200;

export function createHost(library: Library, options: HostOptions): Host {
  const log: string[] = [];
  keepLog(log);
  const parts = makeParts(library, log, options);
  return {
    notices: library.notices,
    requests: {
      ...machineRequests(parts),
      ...documentRequests(parts),
      ...chatRequests(parts),
      ...measureRequests(parts),
    },
    runs: {
      ...machineRuns(parts),
      ...documentRuns(parts),
      ...chatRuns(parts),
      ...measureRuns(parts),
    },
    windowFiles: () => {
      const { model, profile } = library.settings.get();
      return [model, profile].filter((file) => file !== null);
    },
    startQueue: () => parts.queue.start(),
    stopQueue: () => parts.queue.close(),
    async close() {
      parts.pictures.close();
      await parts.room.close();
      library.close();
    },
  };
}

/** Warnings and errors also go to standard error, where a shell hears them. */
function keepLog(log: string[]): void {
  onEngineLog(({ level, text }: LogLine) => {
    log.push(`${level}: ${text}`);
    if (log.length > logLinesKept) log.shift();
    if (level === "warning" || level === "error") process.stderr.write(`${text}\n`);
  });
}
