import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { HostClient } from "../../contract/client.ts";
import { ScholiaError } from "../../contract/errors.ts";
import { HostKeeper } from "../../host/keeper.ts";
import { startHost } from "../../host/process.ts";
import { startWebServer } from "../../web/server.ts";
import { dataDir, type EngineOptions } from "../options.ts";
import { exitCodes, makeDataDir, report } from "../shell.ts";
import type { Terminal } from "../terminal.ts";

export interface ServeOptions extends EngineOptions {
  port: number;
  open?: boolean;
}

/** Serves the window to browsers of this machine until Ctrl+C. */
export async function serve(terminal: Terminal, options: ServeOptions): Promise<number> {
  let keeper: HostKeeper<ReturnType<typeof startHost>> | null = null;
  try {
    const data = await makeDataDir(dataDir(options.data));
    const onLog = (line: string) => {
      if (options.verbose) terminal.err(`| ${line}\n`);
    };
    keeper = new HostKeeper(
      () => startHost({ dataDir: data, onLog }),
      (state) => {
        if (state.state === "exited") terminal.err(`${state.error.message}\n`);
      },
    );
    await choose(keeper.running().client, options);
    const server = await startWebServer({
      keeper,
      staticDir: fileURLToPath(new URL("../../dist/renderer", import.meta.url)),
      dataDir: data,
      version: packageVersion(),
      port: options.port,
    });
    if (options.json) terminal.out(`${JSON.stringify({ url: server.url, port: server.port })}\n`);
    else terminal.out(`Scholia is at ${server.url}\nCtrl+C ends it; what is read is kept.\n`);
    if (options.open && !openBrowser(server.url)) {
      terminal.err("No browser could be opened: open the address above.\n");
    }
    await interrupted();
    terminal.err("Ending; what is done is kept.\n");
    await server.close();
    return exitCodes.ok;
  } catch (error) {
    return report(terminal, error, options.json);
  } finally {
    await keeper?.close();
  }
}

/** Model and engine named on the command line become the window's settings. */
async function choose(client: HostClient, options: ServeOptions): Promise<void> {
  const { model, profile, device, threads } = options;
  const isFile = (name: string) => /[/\\]|\.(gguf|json)$/i.test(name);
  const reply = await client.request("settings.set", {
    ...(model === undefined ? {} : { model: isFile(model) ? resolve(model) : model }),
    ...(profile === undefined ? {} : { profile: isFile(profile) ? resolve(profile) : profile }),
    ...(device === "auto" ? {} : { device }),
    ...(threads === 0 ? {} : { threads }),
  });
  if (!reply.ok) throw new ScholiaError(reply.error.code, reply.error.message);
}

function interrupted(): Promise<void> {
  return new Promise((resolve) => {
    process.once("SIGINT", () => resolve());
    process.once("SIGTERM", () => resolve());
  });
}

/** @returns false when there is nothing to open it with */
function openBrowser(url: string): boolean {
  const hasDisplay =
    process.platform !== "linux" || Boolean(process.env.DISPLAY || process.env.WAYLAND_DISPLAY);
  if (!hasDisplay) return false;
  const commands: Partial<Record<NodeJS.Platform, string[]>> = {
    darwin: ["open", url],
    // The address holds no character that cmd interprets.
    win32: ["cmd", "/c", "start", "", url],
  };
  const [command = "xdg-open", ...args] = commands[process.platform] ?? ["xdg-open", url];
  const child = spawn(command, args, { stdio: "ignore", detached: true });
  child.on("error", () => {});
  child.unref();
  return child.pid !== undefined;
}

function packageVersion(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}
