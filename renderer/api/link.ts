/** The window's channel to the host, which may be lost and found again: requests and runs go to the
 * client of the moment. */
import { connect, type HostClient, type Run } from "../../contract/client.ts";
import type { ErrorValue, Result } from "../../contract/errors.ts";
import type {
  RequestInput,
  RequestOutputs,
  RequestRoute,
  RunInput,
  RunOutputs,
  RunRoute,
} from "../../contract/routes.ts";
import type { Shell } from "../../contract/shell.ts";
import type { HostEvent, Port } from "../../contract/wire.ts";

export interface Link {
  request<R extends RequestRoute>(
    route: R,
    input: RequestInput<R>,
  ): Promise<Result<RequestOutputs[R]>>;
  open<R extends RunRoute>(route: R, input: RunInput<R>): Run<RunOutputs[R]>;
  attach<Output>(runId: string): Run<Output>;
  /** Makes a new channel; the host is started if it does not run. */
  connect(): Promise<void>;
}

export interface LinkListener {
  onConnecting(): void;
  onReady(): void;
  /** @param again whether the link tries by itself */
  onLost(error: ErrorValue, again: boolean): void;
  onEvent(event: HostEvent): void;
}

const hostGone: ErrorValue = {
  code: "engine_lost",
  message: "The reading process ended. What was saved is kept.",
};

/** A host that lived this long is started again by itself; one that dies at once would only die
 * again and again. */
const livedLongMs = 20_000;

export function createLink(shell: Shell, listener: LinkListener): Link {
  let client: HostClient | null = null;
  let connecting: Promise<void> | null = null;

  const lost = (error: ErrorValue, bornAt: number) => {
    client = null;
    const again = performance.now() - bornAt >= livedLongMs;
    listener.onLost(error, again);
    if (again) void link.connect();
  };

  const establish = async () => {
    listener.onConnecting();
    const port = await shell.connect();
    if (!port.ok) return listener.onLost(port.error, false);
    const bornAt = performance.now();
    const made = connect(port.value);
    client = made;
    made.onEvent((event) => listener.onEvent(event));
    whenClosed(port.value, () => {
      if (client === made) lost(hostGone, bornAt);
    });
    listener.onReady();
  };

  const link: Link = {
    request: (route, input) =>
      client?.request(route, input) ?? Promise.resolve({ ok: false, error: hostGone }),
    open: (route, input) => client?.open(route, input) ?? goneRun(),
    attach: (runId) => client?.attach(runId) ?? goneRun(),
    connect() {
      connecting ??= establish().finally(() => {
        connecting = null;
      });
      return connecting;
    },
  };
  return link;
}

const whenClosed = (port: Port, then: () => void): void => port.onClose(then);

/** A run that was asked for while there is no host. */
function goneRun<Output>(): Run<Output> {
  return {
    runId: "",
    stop: () => {},
    detach: () => {},
    result: () => Promise.resolve({ ok: false, error: hostGone }),
    async *[Symbol.asyncIterator]() {
      yield { kind: "failed", error: hostGone };
    },
  };
}
