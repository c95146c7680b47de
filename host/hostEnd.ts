/** The host's end of what its shell started it with: an IPC channel shared out in lanes, or in Electron's
 * utility process a port for each window. */
import type { Port } from "../contract/wire.ts";
import { parentProcessPort } from "./channel.ts";
import { splitPort } from "./lanes.ts";

export interface HostEnd {
  /** The shell's own. Messages wait until somebody listens. */
  main: Port;
  /** Called for each window. */
  onWindow(listener: (window: Port) => void): void;
}

/** As far as it is used here (electronjs.org: parentPort, MessagePortMain). */
interface ElectronPort {
  postMessage(message: unknown): void;
  on(event: "message", listener: (event: ElectronMessage) => void): unknown;
  once(event: "close", listener: () => void): unknown;
  start(): void;
  close(): void;
}
interface ElectronMessage {
  data: unknown;
  ports: ElectronPort[];
}

export function hostEnd(): HostEnd {
  const { parentPort } = process as { parentPort?: ElectronPort };
  if (parentPort !== undefined) return electronEnd(parentPort);
  const port = parentProcessPort();
  let split: ReturnType<typeof splitPort> | null = null;
  // Once somebody listens to the channel, all of it is heard.
  const open = () => {
    split ??= splitPort(port);
    return split;
  };
  return {
    main: {
      ...port,
      onMessage: (listener) => open().main.onMessage(listener),
    },
    onWindow: (listener) => open().onLane(listener),
  };
}

function electronEnd(parent: ElectronPort): HostEnd {
  const onMain: ((message: unknown) => void)[] = [];
  const windows: Port[] = [];
  let onWindow = (window: Port): void => void windows.push(window);
  let early: unknown[] | null = [];
  parent.on("message", ({ data, ports: [port] }) => {
    if (port !== undefined) onWindow(portOf(port));
    else if (early !== null) early.push(data);
    else for (const listener of onMain) listener(data);
  });
  return {
    main: {
      post: (message) => parent.postMessage(message),
      onMessage(listener) {
        onMain.push(listener);
        for (const message of early ?? []) listener(message);
        early = null;
      },
      // The utility process ends with its parent.
      onClose() {},
      close() {},
    },
    onWindow(listener) {
      onWindow = listener;
      for (const window of windows.splice(0)) listener(window);
    },
  };
}

function portOf(port: ElectronPort): Port {
  return {
    post: (message) => port.postMessage(message),
    onMessage(listener) {
      port.on("message", ({ data }) => listener(data));
      port.start();
    },
    onClose: (listener) => void port.once("close", listener),
    close: () => port.close(),
  };
}
