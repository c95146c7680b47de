/** Starts the host as a child process and watches over it: a shell that talks to it hears of its
 * death as an error with the last lines it wrote. */
import { fork } from "node:child_process";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { connect, type HostClient } from "../contract/client.ts";
import type { ErrorValue } from "../contract/errors.ts";
import { hostLost } from "../contract/hostLost.ts";
import type { Port } from "../contract/wire.ts";
import { childProcessPort } from "./channel.ts";
import { splitPort } from "./lanes.ts";
import { processFile } from "./places.ts";

const lastLinesKept = 40;
const closeTimeoutMs = 10_000;

export interface HostProcess {
  readonly client: HostClient;
  readonly pid: number;
  /** A channel of its own for a window, which may not name files. */
  openLane(): Port;
  /** Resolves when the process has ended; with an error unless it was closed in order. */
  readonly exited: Promise<ErrorValue | null>;
  /** Asks the host to end its runs and leave; kills it when it does not within ten seconds. */
  close(): Promise<void>;
}

export interface HostOptions {
  dataDir: string;
  /** Every line that the host and its libraries write to standard error. */
  onLog?: (line: string) => void;
  env?: NodeJS.ProcessEnv;
  /** Another Node than this process's own, and where the host's main.ts is: in Electron. */
  execPath?: string;
  entry?: string;
}

export function startHost(options: HostOptions): HostProcess {
  const entry = options.entry ?? processFile("host/main.ts");
  const child = fork(entry, ["--data", options.dataDir], {
    ...(options.execPath === undefined ? {} : { execPath: options.execPath, execArgv: [] }),
    serialization: "advanced",
    // Piped, not inherited: libraries log there, and a shell's standard output is its answer.
    stdio: ["ignore", "pipe", "pipe", "ipc"],
    env: options.env ?? process.env,
  });
  const lastLines: string[] = [];
  const keep = (line: string) => {
    lastLines.push(line);
    if (lastLines.length > lastLinesKept) lastLines.shift();
    options.onLog?.(line);
  };
  // An unread pipe fills and then blocks the host in the middle of a library's log line.
  const drained = Promise.all([drain(child.stdout, keep), drain(child.stderr, keep)]);

  const port = childProcessPort(child);
  // The exit code and the last lines come after the disconnect, and tell more.
  const split = splitPort(port);
  const client = connect({ ...split.main, onClose: () => {} });
  let closing = false;
  let lastWords: ErrorValue | null = null;
  client.onEvent((event) => {
    if (event.kind === "exiting") lastWords = event.error;
  });

  const exited = new Promise<ErrorValue | null>((resolve) => {
    const ended = async (code: number | null, signal: NodeJS.Signals | null, reason?: string) => {
      await Promise.race([drained, sleep(1000)]);
      const error =
        closing && code === 0 ? null : (lastWords ?? exitError(code, signal, lastLines, reason));
      client.fail(error ?? { code: "engine_lost", message: "The host was closed." });
      resolve(error);
    };
    child.once("exit", (code, signal) => void ended(code, signal));
    child.once("error", (error) => void ended(null, null, error.message));
  });

  return {
    client,
    pid: child.pid ?? -1,
    openLane: () => split.openLane(),
    exited,
    async close() {
      closing = true;
      port.post({ kind: "close" });
      const inTime = await Promise.race([exited.then(() => true), sleep(closeTimeoutMs)]);
      if (inTime !== true) child.kill("SIGKILL");
      await exited;
    },
  };
}

async function drain(stream: Readable | null, keep: (line: string) => void): Promise<void> {
  if (stream === null) return;
  for await (const line of createInterface({
    input: stream,
    crlfDelay: Number.POSITIVE_INFINITY,
  })) {
    keep(line);
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}

function exitError(
  code: number | null,
  signal: NodeJS.Signals | null,
  lastLines: string[],
  reason?: string,
): ErrorValue {
  const how = reason ?? (signal !== null ? `was ended by ${signal}` : `ended with code ${code}`);
  const hint =
    signal === "SIGKILL"
      ? " The system may have run out of memory: a smaller model or fewer pages need less."
      : "";
  return hostLost(how, lastLines, hint);
}
