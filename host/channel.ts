/** The host's end of the channel: takes requests and runs from any port, checks their input, and
 * answers with results and frames. Adapters turn what a platform offers into a {@link Port}. */
import type { ChildProcess } from "node:child_process";
import type { MessagePort } from "node:worker_threads";
import type { BenchRow } from "../contract/bench.ts";
import type { ContextShare } from "../contract/chats.ts";
import { type Result, ScholiaError, toErrorValue } from "../contract/errors.ts";
import {
  namedFiles,
  type RequestOutputs,
  type RequestParsed,
  type RequestRoute,
  type RunEntry,
  type RunOutputs,
  type RunParsed,
  type RunRoute,
  requestInputs,
  runInputs,
} from "../contract/routes.ts";
import type { Progress, RunFrame, TerminalFrame } from "../contract/stream.ts";
import {
  type FromHost,
  type HostEvent,
  type Port,
  type ToHost,
  toHostSchema,
} from "../contract/wire.ts";

/** What a handler of a run may say while it works. */
export interface RunSink {
  progress(progress: Progress): void;
  notice(message: string): void;
  /** Which turn of which chat the run answers. */
  turn(turn: { chatId: string; turnId: string }): void;
  context(context: ContextShare): void;
  text(text: string): void;
  trace(trace: Uint8Array): void;
  row(row: BenchRow): void;
  /** Aborted when a shell stops the run. */
  readonly signal: AbortSignal;
  readonly runId: string;
}

export type RequestHandlers = {
  [R in RequestRoute]: (input: RequestParsed<R>) => Promise<RequestOutputs[R]>;
};
export type RunHandlers = {
  [R in RunRoute]: (input: RunParsed<R>, sink: RunSink) => Promise<RunOutputs[R]>;
};

export interface HostServer {
  /** Serves one more port; runs are shared by all of them. A port whose other end is a window may not
   * name files of this machine: only shells, which have them from a dialog or a command line, may. */
  serve(port: Port, options?: { isWindow: boolean }): void;
  announce(event: HostEvent): void;
  /** Those that go on and those that ended last, oldest first. */
  runs(): RunEntry[];
  /** Stops all runs and waits until they have ended. */
  close(): Promise<void>;
}

/** Text and traces of a few milliseconds travel together: each message wakes several threads on its way,
 * and a window shows them no more often than that. */
const mergeMs = 25;
/** Ended runs that can still be attached to. */
const endedRunsKept = 16;

export function createHostServer(
  requests: RequestHandlers,
  runs: RunHandlers,
  {
    onCloseAsked = () => {},
    windowFiles = () => [],
  }: {
    onCloseAsked?: () => void;
    /** Files that a window may name: those that a shell was told to use. */
    windowFiles?: () => string[];
  } = {},
): HostServer {
  const allowed = (isWindow: boolean) => (isWindow ? windowFiles() : null);
  const openRuns = new Map<string, HostRun>();
  const ports = new Set<Port>();

  const openRun = (
    { route, runId, input }: { route: RunRoute; runId: string; input: unknown },
    isWindow: boolean,
  ): HostRun => {
    const known = openRuns.get(runId);
    if (known !== undefined) return known;
    const run = new HostRun(runId, route);
    openRuns.set(runId, run);
    void run.follow(() => {
      const parsed = parseInput(route, runInputs[route], input, allowed(isWindow));
      // The parsed input belongs to the route, which the types of a table can't say.
      return (runs[route] as (input: unknown, sink: RunSink) => Promise<unknown>)(parsed, run);
    });
    forgetOldRuns(openRuns);
    return run;
  };

  const handle = (port: Port, message: ToHost, isWindow: boolean) => {
    switch (message.kind) {
      case "request":
        void answerRequest(requests, message.route, message.input, allowed(isWindow)).then(
          (result) => port.post({ kind: "result", id: message.id, result } satisfies FromHost),
        );
        return;
      case "open":
        if (!Object.hasOwn(runInputs, message.route)) return refuseRun(port, message);
        openRun(message, isWindow).attach(port, message.credits, false);
        return;
      case "attach": {
        const run = openRuns.get(message.runId);
        if (run === undefined) return refuseRun(port, message);
        run.attach(port, message.credits, true);
        return;
      }
      case "detach":
        openRuns.get(message.runId)?.detach(port);
        return;
      case "stop":
        openRuns.get(message.runId)?.stop();
        return;
      case "grant":
        openRuns.get(message.runId)?.grant(port, message.credits);
        return;
      case "close":
        // A window that closes takes no other with it.
        if (!isWindow) onCloseAsked();
        return;
    }
  };

  return {
    serve(port, { isWindow } = { isWindow: false }) {
      ports.add(port);
      port.onMessage((message) => {
        const asked = isWindow ? readMessage(message) : (message as ToHost);
        if (asked !== null) handle(port, asked, isWindow);
      });
      port.onClose(() => {
        ports.delete(port);
        for (const run of openRuns.values()) run.detach(port);
      });
    },
    announce(event) {
      for (const port of ports) port.post({ kind: "event", event } satisfies FromHost);
    },
    runs: () =>
      [...openRuns.values()].map(({ runId, route, startedAt, hasEnded }) => ({
        runId,
        route,
        startedAt,
        ended: hasEnded,
      })),
    async close() {
      for (const run of openRuns.values()) run.stop();
      await Promise.all([...openRuns.values()].map((run) => run.ended));
    },
  };
}

async function answerRequest(
  handlers: RequestHandlers,
  route: RequestRoute,
  input: unknown,
  allowedFiles: string[] | null,
): Promise<Result<unknown>> {
  try {
    if (!Object.hasOwn(requestInputs, route)) {
      throw new ScholiaError("invalid_argument", `There is no request "${route}".`);
    }
    const parsed = parseInput(route, requestInputs[route], input, allowedFiles);
    const handler = handlers[route] as (input: unknown) => Promise<unknown>;
    return { ok: true, value: await handler(parsed) };
  } catch (error) {
    return { ok: false, error: toErrorValue(error) };
  }
}

function refuseRun(port: Port, message: { runId: string; route?: string }) {
  const what = message.route === undefined ? `run ${message.runId}` : `run "${message.route}"`;
  const error = { code: "invalid_argument" as const, message: `There is no ${what}.` };
  const frame: TerminalFrame = { kind: "failed", error };
  port.post({ kind: "frames", runId: message.runId, seq: 1, frames: [frame] } satisfies FromHost);
}

interface Issue {
  path: PropertyKey[];
  message: string;
}

function parseInput(
  route: string,
  schema: {
    safeParse(
      input: unknown,
    ): { success: true; data: unknown } | { success: false; error: { issues: Issue[] } };
  },
  input: unknown,
  allowedFiles: string[] | null,
): unknown {
  const parsed = schema.safeParse(input);
  if (parsed.success) {
    const isNamed = (file: string) => allowedFiles === null || allowedFiles.includes(file);
    if (!namedFiles(parsed.data).every(isNamed)) {
      throw new ScholiaError(
        "not_allowed",
        `${route}: a window can't name files of this machine. Choose the file in a dialog or drop it.`,
      );
    }
    return parsed.data;
  }
  const issues = parsed.error.issues.map((issue) => {
    const path = issue.path.map(String).join(".");
    return path === "" ? issue.message : `${path}: ${issue.message}`;
  });
  throw new ScholiaError("invalid_argument", `${route}: ${issues.join("; ")}`);
}

function forgetOldRuns(runs: Map<string, HostRun>) {
  const ended = [...runs.values()].filter((run) => run.hasEnded);
  for (const run of ended.slice(0, Math.max(0, ended.length - endedRunsKept))) {
    runs.delete(run.runId);
  }
}

/** A sink that passes everything on and lets some of it be heard on the way. */
export function listening(
  sink: RunSink,
  ears: Partial<Omit<RunSink, "signal" | "runId">>,
): RunSink {
  return {
    signal: sink.signal,
    runId: sink.runId,
    progress(progress) {
      ears.progress?.(progress);
      sink.progress(progress);
    },
    notice(message) {
      ears.notice?.(message);
      sink.notice(message);
    },
    turn(turn) {
      ears.turn?.(turn);
      sink.turn(turn);
    },
    context(context) {
      ears.context?.(context);
      sink.context(context);
    },
    text(text) {
      ears.text?.(text);
      sink.text(text);
    },
    trace(trace) {
      ears.trace?.(trace);
      sink.trace(trace);
    },
    row(row) {
      ears.row?.(row);
      sink.row(row);
    },
  };
}

/** A window's message, if it is one: what comes from outside is looked at before it is used. */
function readMessage(raw: unknown): ToHost | null {
  const parsed = toHostSchema.safeParse(raw);
  return parsed.success ? (parsed.data as ToHost) : null;
}

/** Who watches a run. */
interface Watcher {
  /** Of the last frame that was posted. */
  seq: number;
  credits: number;
  /** Traces left out since the last one that was not. */
  dropped: number;
  /** Frames that go with the next message. */
  waiting: RunFrame[];
}

/** One run: what was said so far, who watches, and its one terminal frame. */
class HostRun implements RunSink {
  readonly runId: string;
  readonly route: RunRoute;
  readonly startedAt = new Date().toISOString();
  readonly ended: Promise<void>;
  hasEnded = false;
  private readonly aborter = new AbortController();
  private readonly watchers = new Map<Port, Watcher>();
  private settle!: () => void;
  private said = "";
  private pendingText = "";
  private mergeTimer: NodeJS.Timeout | null = null;
  private readonly notices: string[] = [];
  private readonly rows: BenchRow[] = [];
  private lastProgress: Progress | null = null;
  private answers: { chatId: string; turnId: string } | null = null;
  private share: ContextShare | null = null;
  private terminal: TerminalFrame | null = null;

  constructor(runId: string, route: RunRoute) {
    this.runId = runId;
    this.route = route;
    this.ended = new Promise((resolve) => {
      this.settle = resolve;
    });
  }

  get signal() {
    return this.aborter.signal;
  }

  /** Runs the handler; whatever becomes of it ends in the terminal frame. */
  async follow(handler: () => Promise<unknown>): Promise<void> {
    try {
      // The frame that opened the run is answered first, so that its watcher is attached.
      await Promise.resolve();
      this.finish({ kind: "done", value: await handler() });
    } catch (error) {
      this.finish({ kind: "failed", error: toErrorValue(error) });
    }
  }

  progress(progress: Progress) {
    this.lastProgress = progress;
    this.send({ kind: "progress", progress });
  }

  notice(message: string) {
    this.notices.push(message);
    this.send({ kind: "notice", message });
  }

  turn(turn: { chatId: string; turnId: string }) {
    this.answers = turn;
    this.send({ kind: "turn", ...turn });
  }

  context(context: ContextShare) {
    this.share = context;
    this.send({ kind: "context", context });
  }

  text(text: string) {
    if (text === "") return;
    this.said += text;
    this.pendingText += text;
    this.postSoon();
  }

  row(row: BenchRow) {
    this.rows.push(row);
    this.send({ kind: "row", row });
  }

  /** A watcher without credit misses the frame and is told how many it missed with the next. */
  trace(trace: Uint8Array) {
    for (const watcher of this.watchers.values()) {
      if (watcher.credits === 0) {
        watcher.dropped++;
        continue;
      }
      watcher.credits--;
      watcher.waiting.push({ kind: "trace", trace, dropped: watcher.dropped });
      watcher.dropped = 0;
      this.postSoon();
    }
  }

  attach(port: Port, credits: number, replay: boolean) {
    this.postAll();
    const watcher = this.watchers.get(port) ?? { seq: 0, credits: 0, dropped: 0, waiting: [] };
    watcher.credits += credits;
    this.watchers.set(port, watcher);
    if (replay) {
      const { said: text, notices, rows, lastProgress: progress } = this;
      watcher.waiting.push({
        kind: "replay",
        text,
        notices: [...notices],
        rows: [...rows],
        progress,
        turn: this.answers,
        context: this.share,
      });
    }
    if (this.terminal !== null) watcher.waiting.push(this.terminal);
    this.post(port, watcher);
  }

  detach(port: Port) {
    this.watchers.delete(port);
  }

  grant(port: Port, credits: number) {
    const watcher = this.watchers.get(port);
    if (watcher !== undefined) watcher.credits += credits;
  }

  stop() {
    this.aborter.abort();
  }

  private finish(frame: TerminalFrame) {
    this.terminal = frame;
    this.hasEnded = true;
    this.send(frame);
    this.watchers.clear();
    this.settle();
  }

  private send(frame: RunFrame) {
    this.takeText();
    for (const watcher of this.watchers.values()) watcher.waiting.push(frame);
    this.postAll();
  }

  private takeText() {
    const text = this.pendingText;
    this.pendingText = "";
    if (text === "") return;
    for (const watcher of this.watchers.values()) watcher.waiting.push({ kind: "text", text });
  }

  private postSoon() {
    this.mergeTimer ??= setTimeout(() => this.postAll(), mergeMs);
  }

  private postAll() {
    if (this.mergeTimer !== null) clearTimeout(this.mergeTimer);
    this.mergeTimer = null;
    this.takeText();
    for (const [port, watcher] of this.watchers) this.post(port, watcher);
  }

  private post(port: Port, watcher: Watcher) {
    const frames = watcher.waiting;
    if (frames.length === 0) return;
    watcher.waiting = [];
    const seq = watcher.seq + 1;
    watcher.seq += frames.length;
    port.post({ kind: "frames", runId: this.runId, seq, frames } satisfies FromHost);
  }
}

// Adapters

/** The shell's end of a forked host. */
export function childProcessPort(child: ChildProcess): Port {
  return ipcPort(child, () => child.connected && child.disconnect());
}

/** The host's end, in the forked process. */
export function parentProcessPort(): Port {
  if (process.send === undefined) {
    throw new Error("this process was not forked with an IPC channel");
  }
  return ipcPort(process, () => process.connected && process.disconnect?.());
}

function ipcPort(end: ChildProcess | NodeJS.Process, disconnect: () => unknown): Port {
  return {
    post(message) {
      // A message to an end that has just gone is lost with it; onClose tells the rest.
      if (end.connected) end.send?.(message as object, undefined, undefined, () => {});
    },
    onMessage: (listener) => void end.on("message", listener),
    onClose: (listener) => void end.once("disconnect", listener),
    close: () => void disconnect(),
  };
}

/** Either end of a MessageChannel: a worker's, or one that Electron hands to its utility process. */
export function messagePort(port: MessagePort): Port {
  return {
    post: (message) => port.postMessage(message),
    onMessage: (listener) => void port.on("message", listener),
    onClose: (listener) => void port.once("close", listener),
    close: () => port.close(),
  };
}
