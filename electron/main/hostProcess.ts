/** The host of the desktop app: Electron's utility process, or, in development, a Node of its own. Either
 * hands each window a MessagePort. */
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { MessageChannelMain, type MessagePortMain, utilityProcess } from "electron";
import { connect } from "../../contract/client.ts";
import type { ErrorValue } from "../../contract/errors.ts";
import { hostLost } from "../../contract/hostLost.ts";
import type { Port } from "../../contract/wire.ts";
import type { KeptHost } from "../../host/keeper.ts";
import { startHost } from "../../host/process.ts";

export interface DesktopHost extends KeptHost {
  /** One end for a window; the host has the other. */
  openPort(): MessagePortMain;
}

export interface DesktopHostOptions {
  dataDir: string;
  /** The bundled host. */
  entry: string;
  onLog: (line: string) => void;
}

const lastLinesKept = 40;
const closeTimeoutMs = 10_000;

/** In development: the host runs from its sources, in a Node that can (`SCHOLIA_HOST_NODE`,
 * `SCHOLIA_HOST_ENTRY`); an Electron in tests may bring one that is too old for it. */
export function startNodeHost(
  node: string,
  entry: string,
  options: DesktopHostOptions,
): DesktopHost {
  const host = startHost({ ...options, execPath: node, entry });
  return {
    ...host,
    openPort() {
      const { port1, port2 } = new MessageChannelMain();
      joinPorts(portOf(port1), host.openLane());
      return port2;
    },
  };
}

function joinPorts(window: Port, lane: Port) {
  window.onMessage((message) => lane.post(message));
  lane.onMessage((message) => window.post(message));
  window.onClose(() => lane.close());
  lane.onClose(() => window.close());
}

export function startUtilityHost(options: DesktopHostOptions): DesktopHost {
  const child = utilityProcess.fork(options.entry, ["--data", options.dataDir], {
    serviceName: "Scholia host",
    stdio: "pipe",
  });
  const lastLines: string[] = [];
  const keep = (line: string) => {
    lastLines.push(line);
    if (lastLines.length > lastLinesKept) lastLines.shift();
    options.onLog(line);
  };
  // An unread pipe fills and then blocks the host in the middle of a library's log line.
  drain(child.stdout, keep);
  drain(child.stderr, keep);

  // The host takes SIGTERM for the shell's business, so `child.kill()` would not end it.
  const kill = () => {
    if (child.pid !== undefined) process.kill(child.pid, "SIGKILL");
  };
  const port: Port = {
    post: (message) => child.postMessage(message),
    onMessage: (listener) => void child.on("message", listener),
    onClose: () => {},
    close: kill,
  };
  const client = connect(port);
  let closing = false;
  let lastWords: ErrorValue | null = null;
  client.onEvent((event) => {
    if (event.kind === "exiting") lastWords = event.error;
  });
  const exited = new Promise<ErrorValue | null>((resolve) => {
    child.once("exit", (code) => {
      const error =
        closing && code === 0
          ? null
          : (lastWords ?? hostLost(`ended with code ${code}`, lastLines));
      client.fail(error ?? { code: "engine_lost", message: "The host was closed." });
      resolve(error);
    });
  });
  return {
    client,
    get pid() {
      return child.pid ?? -1;
    },
    exited,
    openPort() {
      const { port1, port2 } = new MessageChannelMain();
      child.postMessage({ kind: "lane" }, [port1]);
      return port2;
    },
    async close() {
      closing = true;
      port.post({ kind: "close" });
      const timer = setTimeout(kill, closeTimeoutMs);
      await exited;
      clearTimeout(timer);
    },
  };
}

function portOf(port: MessagePortMain): Port {
  port.start();
  return {
    post: (message) => port.postMessage(message),
    onMessage: (listener) => void port.on("message", ({ data }) => listener(data)),
    onClose: (listener) => void port.once("close", listener),
    close: () => port.close(),
  };
}

function drain(stream: NodeJS.ReadableStream | null, keep: (line: string) => void) {
  if (stream === null) return;
  createInterface({ input: stream as Readable, crlfDelay: Number.POSITIVE_INFINITY }).on(
    "line",
    keep,
  );
}
