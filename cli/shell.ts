/** What every command needs: a host, a terminal, and an orderly end on Ctrl+C. */
import { mkdir } from "node:fs/promises";
import type { HostClient, Run } from "../contract/client.ts";
import { type ErrorCode, type ErrorValue, type Result, ScholiaError } from "../contract/errors.ts";
import type { RunFrame } from "../contract/stream.ts";
import { type HostProcess, startHost } from "../host/process.ts";
import { dataDir, type EngineOptions } from "./options.ts";
import { ProgressLine } from "./progress.ts";
import type { Terminal } from "./terminal.ts";

/** Exit codes, as `scholia --help` lists them. */
export const exitCodes = { ok: 0, error: 1, usage: 2, interrupted: 130 } as const;

export interface Shell {
  readonly terminal: Terminal;
  readonly client: HostClient;
  readonly progress: ProgressLine;
  /** Shows a run's progress and notices and hands on the other frames, until it ends. Ctrl+C stops
   * the run, a second one leaves at once.
   * @throws ScholiaError when the run failed. */
  follow<Output>(run: Run<Output>, onFrame?: (frame: RunFrame) => void): Promise<Output>;
  /** @throws ScholiaError when the request failed. */
  expect<Value>(reply: Promise<Result<Value>>): Promise<Value>;
}

/** Starts the host, does the work, ends the host.
 * @returns the exit code */
export async function withHost(
  terminal: Terminal,
  options: Pick<EngineOptions, "data" | "verbose" | "json">,
  work: (shell: Shell) => Promise<number>,
): Promise<number> {
  let host: HostProcess | null = null;
  try {
    const data = await makeDataDir(dataDir(options.data));
    const logging = options.verbose ? { onLog: (line: string) => terminal.err(`| ${line}\n`) } : {};
    host = startHost({ dataDir: data, ...logging });
    return await work(makeShell(terminal, host));
  } catch (error) {
    return report(terminal, error, options.json);
  } finally {
    await host?.close();
  }
}

/** @throws ScholiaError `invalid_argument` */
export async function makeDataDir(path: string): Promise<string> {
  try {
    await mkdir(path, { recursive: true });
    return path;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ScholiaError(
      "invalid_argument",
      `The data folder ${path} can't be made (${reason}). Name another with --data.`,
    );
  }
}

function makeShell(terminal: Terminal, host: HostProcess): Shell {
  const progress = new ProgressLine(terminal);
  host.client.onEvent((event) => {
    if (event.kind === "notice") terminal.err(`note: ${event.message}\n`);
  });
  return {
    terminal,
    client: host.client,
    progress,
    async follow<Output>(run: Run<Output>, onFrame: (frame: RunFrame) => void = () => {}) {
      const stopListening = stopOnInterrupt(terminal, progress, run, host);
      try {
        for await (const frame of run) {
          if (frame.kind === "progress") progress.show(frame.progress);
          else if (frame.kind !== "trace") progress.clear();
          if (frame.kind === "notice") terminal.err(`note: ${frame.message}\n`);
          onFrame(frame);
        }
      } finally {
        progress.clear();
        stopListening();
      }
      return unwrap(await run.result());
    },
    expect: async (reply) => unwrap(await reply),
  };
}

function unwrap<Value>(result: Result<Value>): Value {
  if (result.ok) return result.value;
  throw new ScholiaError(result.error.code, result.error.message);
}

/** The terminal sends Ctrl+C to the host too, which leaves it to us. */
function stopOnInterrupt(
  terminal: Terminal,
  progress: ProgressLine,
  run: Run<unknown>,
  host: HostProcess,
): () => void {
  let interrupts = 0;
  const onInterrupt = () => {
    interrupts++;
    if (interrupts === 1) {
      progress.clear();
      terminal.err("Stopping; what is done is kept. Ctrl+C again leaves at once.\n");
      run.stop();
    } else {
      process.kill(host.pid, "SIGKILL");
      process.exit(exitCodes.interrupted);
    }
  };
  process.on("SIGINT", onInterrupt);
  process.on("SIGTERM", onInterrupt);
  return () => {
    process.off("SIGINT", onInterrupt);
    process.off("SIGTERM", onInterrupt);
  };
}

/** How a command line does what an error's message advises. */
const hints: Partial<Record<ErrorCode, string>> = {
  context_exceeded: "See --pages, --max-tokens and --model; scholia models list",
  model_not_found: "See scholia models list, scholia models get ID, --model FILE.gguf",
  profile_mismatch: "See scholia calibrate, --profile uniform",
};

/** Says an error in its own words, with `--json` also as the one value on standard output, and gives
 * the exit code. */
export function report(terminal: Terminal, error: unknown, json = false): number {
  const value: ErrorValue =
    error instanceof ScholiaError
      ? error.toValue()
      : {
          code: "internal",
          message: error instanceof Error ? (error.stack ?? error.message) : String(error),
        };
  if (json) terminal.out(`${JSON.stringify({ error: value }, null, 2)}\n`);
  if (value.code === "cancelled") {
    terminal.err(`${value.message}\n`);
    return exitCodes.interrupted;
  }
  terminal.err(`error (${value.code}): ${value.message}\n`);
  const hint = hints[value.code];
  if (hint !== undefined) terminal.err(`${hint}\n`);
  return value.code === "usage" ? exitCodes.usage : exitCodes.error;
}
