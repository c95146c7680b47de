/** Keeps a host for the windows of a shell: starts it when one is needed, knows what became of the last
 * one, and starts the next. */
import type { HostClient } from "../contract/client.ts";
import type { ErrorValue } from "../contract/errors.ts";
import type { HostState } from "../contract/shell.ts";

/** A host process, however it was started. */
export interface KeptHost {
  readonly client: HostClient;
  readonly pid: number;
  /** Resolves when the process has ended; with an error unless it was closed in order. */
  readonly exited: Promise<ErrorValue | null>;
  close(): Promise<void>;
}

export class HostKeeper<Kept extends KeptHost> {
  private readonly start: () => Kept;
  private readonly onState: (state: HostState) => void;
  private current: Kept | null = null;
  private last: HostState = { state: "starting" };
  private closed = false;

  constructor(start: () => Kept, onState: (state: HostState) => void = () => {}) {
    this.start = start;
    this.onState = onState;
  }

  get state(): HostState {
    if (this.last.state !== "running" || this.current === null) return this.last;
    // A process that has only just been asked for gets its number later.
    return { state: "running", pid: this.current.pid };
  }

  /** The host that runs; a new one when there is none. */
  running(): Kept {
    if (this.current !== null) return this.current;
    const host = this.start();
    this.current = host;
    this.tell({ state: "running", pid: host.pid });
    void host.exited.then((error) => {
      if (this.current !== host) return;
      this.current = null;
      if (error !== null && !this.closed) this.tell({ state: "exited", error });
    });
    return host;
  }

  /** Ends the host in order and starts the next. */
  async restart(): Promise<void> {
    const host = this.current;
    this.current = null;
    await host?.close();
    this.running();
  }

  async close(): Promise<void> {
    this.closed = true;
    const host = this.current;
    this.current = null;
    await host?.close();
  }

  private tell(state: HostState) {
    this.last = state;
    this.onState(state);
  }
}
