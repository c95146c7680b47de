/** The shell in Electron: calls go through the preload script to the main process, messages over a
 * MessagePort straight to the host. */

import type { Result } from "../../contract/errors.ts";
import { toErrorValue } from "../../contract/errors.ts";
import type { DesktopBridge, PortMessage, Shell } from "../../contract/shell.ts";
import type { Port } from "../../contract/wire.ts";

const portTimeoutMs = 30_000;

export function desktopShell(bridge: DesktopBridge): Shell {
  const call = async (action: string, input: unknown): Promise<Result<never>> => {
    try {
      return (await bridge.call(action, input)) as Result<never>;
    } catch (error) {
      return { ok: false, error: toErrorValue(error) };
    }
  };
  return {
    kind: "desktop",
    async connect() {
      const name = crypto.randomUUID();
      const port = awaitPort(name);
      const asked = await call("host.connect", { name });
      return asked.ok ? port : asked;
    },
    call,
    addFiles: (files) => call("documents.drop", files),
    onEvent: (listener) => bridge.subscribe(listener),
  };
}

/** The port of this name, which the preload script hands over. */
function awaitPort(name: string): Promise<Result<Port>> {
  return new Promise((resolve) => {
    const finish = (result: Result<Port>) => {
      window.removeEventListener("message", onMessage);
      clearTimeout(timer);
      resolve(result);
    };
    const onMessage = (event: MessageEvent) => {
      const message = event.data as PortMessage | null;
      const [port] = event.ports;
      if (event.source !== window || message?.kind !== "scholia-port") return;
      if (message.name === name && port !== undefined) finish({ ok: true, value: portOf(port) });
    };
    const timer = setTimeout(() => {
      const message = "The engine's process did not answer. Start it again.";
      finish({ ok: false, error: { code: "engine_lost", message } });
    }, portTimeoutMs);
    window.addEventListener("message", onMessage);
  });
}

function portOf(port: MessagePort): Port {
  return {
    post: (message) => port.postMessage(message),
    onMessage(listener) {
      port.addEventListener("message", (event) => listener(event.data));
      port.start();
    },
    // Electron closes a port whose other end's process has gone; its type does not know the event.
    onClose: (listener) => port.addEventListener("close", () => listener(), { once: true }),
    close: () => port.close(),
  };
}
