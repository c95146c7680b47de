/** The shell's end of the channel: requests with one reply, runs as streams of frames. Knows no
 * environment, so that command line, web and window share it. */
import type { ErrorValue, Result } from "./errors.ts";
import type {
  RequestInput,
  RequestOutputs,
  RequestRoute,
  RunInput,
  RunOutputs,
  RunRoute,
} from "./routes.ts";
import { isTerminal, type RunFrame } from "./stream.ts";
import type { FromHost, HostEvent, Port, ToHost } from "./wire.ts";

/** Trace frames that may be under way before the shell has taken one. */
const traceCredits = 8;
/** Credits are given back so many at a time: with each a message goes to the host. */
const creditsAtOnce = traceCredits / 2;

/** A run being watched. Iterate it for its frames; the last one is terminal. */
export interface Run<Output> extends AsyncIterable<RunFrame> {
  readonly runId: string;
  /** Asks the run to stop; it then ends with a terminal frame as always. */
  stop(): void;
  /** Watches no longer; the run goes on. */
  detach(): void;
  /** The terminal frame as a value; frames are also taken from here when nobody iterates. */
  result(): Promise<Result<Output>>;
}

export interface HostClient {
  request<R extends RequestRoute>(
    route: R,
    input: RequestInput<R>,
  ): Promise<Result<RequestOutputs[R]>>;
  open<R extends RunRoute>(route: R, input: RunInput<R>): Run<RunOutputs[R]>;
  /** Watches a run that was opened before, from its replay on. */
  attach<Output>(runId: string): Run<Output>;
  onEvent(listener: (event: HostEvent) => void): void;
  /** Ends everything under way with this error; used when the host is gone. */
  fail(error: ErrorValue): void;
}

const hostGone: ErrorValue = {
  code: "engine_lost",
  message: "The host process ended. What was saved is kept; start again to go on.",
};

export function connect(port: Port): HostClient {
  const pending = new Map<number, (result: Result<unknown>) => void>();
  const runs = new Map<string, WatchedRun>();
  const eventListeners: ((event: HostEvent) => void)[] = [];
  let nextId = 1;
  let gone: ErrorValue | null = null;

  const post = (message: ToHost) => {
    if (gone === null) port.post(message);
  };

  port.onMessage((raw) => {
    const message = raw as FromHost;
    if (message.kind === "result") {
      pending.get(message.id)?.(message.result);
      pending.delete(message.id);
    } else if (message.kind === "frames") {
      for (const [index, frame] of message.frames.entries())
        runs.get(message.runId)?.take(message.seq + index, frame);
    } else {
      for (const listener of eventListeners) listener(message.event);
    }
  });

  const fail = (error: ErrorValue) => {
    if (gone !== null) return;
    gone = error;
    for (const settle of pending.values()) settle({ ok: false, error });
    pending.clear();
    for (const run of [...runs.values()]) run.push({ kind: "failed", error });
    runs.clear();
  };
  port.onClose(() => fail(hostGone));

  const watch = <Output>(runId: string): Run<Output> => {
    const run = new WatchedRun(runId, post, () => runs.delete(runId));
    if (gone === null) runs.set(runId, run);
    else run.push({ kind: "failed", error: gone });
    return run as unknown as Run<Output>;
  };

  return {
    request(route, input) {
      if (gone !== null) return Promise.resolve({ ok: false, error: gone });
      const id = nextId++;
      return new Promise((resolve) => {
        pending.set(id, resolve as (result: Result<unknown>) => void);
        post({ kind: "request", id, route, input });
      });
    },
    open(route, input) {
      const runId = newRunId();
      const run = watch<RunOutputs[typeof route]>(runId);
      post({ kind: "open", runId, route, input, credits: traceCredits });
      return run;
    },
    attach<Output>(runId: string) {
      const run = watch<Output>(runId);
      post({ kind: "attach", runId, credits: traceCredits });
      return run;
    },
    onEvent: (listener) => void eventListeners.push(listener),
    fail,
  };
}

/** Unlike any other run of this host: shells that share a host draw from 2^53 names. */
function newRunId(): string {
  return `run-${Math.floor(Math.random() * Number.MAX_SAFE_INTEGER).toString(36)}`;
}

/** Frames of one run, queued until they are taken. */
class WatchedRun implements Run<unknown> {
  readonly runId: string;
  private readonly post: (message: ToHost) => void;
  private readonly forget: () => void;
  private readonly queue: RunFrame[] = [];
  private lastSeq = 0;
  private tracesTaken = 0;
  private awaitsReplay = false;
  private ended = false;
  private waiting: (() => void) | null = null;
  private readonly finished: Promise<Result<unknown>>;
  private finish!: (result: Result<unknown>) => void;

  constructor(runId: string, post: (message: ToHost) => void, forget: () => void) {
    this.runId = runId;
    this.post = post;
    this.forget = forget;
    this.finished = new Promise((resolve) => {
      this.finish = resolve;
    });
  }

  take(seq: number, frame: RunFrame) {
    // A replay starts the count anew; any other gap means that frames were lost: ask for a replay.
    if (frame.kind === "replay") this.awaitsReplay = false;
    else if (this.awaitsReplay) return;
    else if (seq !== this.lastSeq + 1) {
      this.awaitsReplay = true;
      this.post({ kind: "attach", runId: this.runId, credits: 0 });
      return;
    }
    this.lastSeq = seq;
    this.push(frame);
  }

  push(frame: RunFrame) {
    if (this.ended) return;
    this.queue.push(frame);
    if (isTerminal(frame)) {
      this.ended = true;
      this.forget();
      this.finish(
        frame.kind === "done"
          ? { ok: true, value: frame.value }
          : { ok: false, error: frame.error },
      );
    }
    this.wake();
  }

  stop() {
    this.post({ kind: "stop", runId: this.runId });
  }

  detach() {
    this.post({ kind: "detach", runId: this.runId });
    this.ended = true;
    this.forget();
    this.finish({
      ok: false,
      error: { code: "cancelled", message: "No longer watched; the run goes on." },
    });
    this.wake();
  }

  result() {
    return this.finished;
  }

  async *[Symbol.asyncIterator]() {
    for (;;) {
      const frame = this.queue.shift();
      if (frame !== undefined) {
        if (frame.kind === "trace") this.giveBack();
        yield frame;
        if (isTerminal(frame)) return;
      } else if (this.ended) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.waiting = resolve;
        });
      }
    }
  }

  private giveBack() {
    this.tracesTaken++;
    if (this.tracesTaken % creditsAtOnce === 0)
      this.post({ kind: "grant", runId: this.runId, credits: creditsAtOnce });
  }

  private wake() {
    const waiting = this.waiting;
    this.waiting = null;
    waiting?.();
  }
}
