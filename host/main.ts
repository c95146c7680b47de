/** The host process: documents, reads, answers, one engine. Started by a shell, which it serves over
 * its channel; it ends with the shell. */
import { readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type ErrorValue, toErrorValue } from "../contract/errors.ts";
import type { FromHost, HostEvent, Port } from "../contract/wire.ts";
import { createHostServer, type HostServer } from "./channel.ts";
import { createHost, type Host } from "./host.ts";
import { hostEnd } from "./hostEnd.ts";
import { packageFile } from "./places.ts";
import { openLibrary } from "./store/library.ts";

const { values } = parseArgs({ options: { data: { type: "string" } } });
if (values.data === undefined) {
  throw new Error("usage: main.ts --data DIR, forked with an IPC channel");
}
const end = hostEnd();

// Ctrl+C in a terminal reaches the whole group: the shell decides what it means.
process.on("SIGINT", () => {});
process.on("SIGTERM", () => {});
process.on("uncaughtException", fail);
process.on("unhandledRejection", fail);
void serve(values.data);

async function serve(dataDir: string): Promise<void> {
  await mkdir(dataDir, { recursive: true });
  const library = await openLibrary(dataDir);
  const host = createHost(library, { dataDir, version: packageVersion(), server: () => server });
  const leave = () => void close(host, server);
  const server = createHostServer(host.requests, host.runs, {
    onCloseAsked: leave,
    windowFiles: () => host.windowFiles(),
  });
  const greet = (port: Port, options?: { isWindow: boolean }) => {
    server.serve(port, options);
    const say = (event: HostEvent) => port.post({ kind: "event", event } satisfies FromHost);
    say({ kind: "ready", pid: process.pid });
    for (const message of host.notices) say({ kind: "notice", message });
  };
  greet(end.main);
  end.onWindow((window) => {
    greet(window, { isWindow: true });
    host.startQueue();
  });
  process.once("disconnect", leave);
}

/** Time for the last message to leave the process. */
const lastWordsMs = 100;

async function fail(error: unknown): Promise<never> {
  const value: ErrorValue = toErrorValue(error);
  process.stderr.write(`${error instanceof Error ? error.stack : value.message}\n`);
  const event: FromHost = { kind: "event", event: { kind: "exiting", error: value } };
  end.main.post(event);
  await sleep(lastWordsMs);
  process.exit(1);
}

let isClosing = false;
/** Stops the runs at their next chunk or token, frees the engine, and ends. */
async function close(host: Host, server: HostServer): Promise<void> {
  if (isClosing) return;
  isClosing = true;
  // A run may wait for what the queue is reading.
  await Promise.all([host.stopQueue(), server.close()]);
  await host.close();
  process.exit(0);
}

function packageVersion(): string {
  return (JSON.parse(readFileSync(packageFile, "utf8")) as { version: string }).version;
}
