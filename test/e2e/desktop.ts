// The desktop app as people run it: Electron on a screen in memory, the real host and engine.
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { _electron, type ElectronApplication, type Page } from "playwright-core";
import { setUpElectronApp } from "../../build/electronApp.ts";
import { setUpElectron } from "../../build/electronDist.ts";
import { electronAppDist, root } from "../../build/paths.ts";
import { setUpRenderer } from "../../build/renderer.ts";
import { startRefusingProxy } from "./refusingProxy.ts";

export interface Desktop {
  app: ElectronApplication;
  window: Page;
  /** Starts the app once more, with these arguments, beside the one that runs.
   * @returns its exit code */
  again(args: string[]): Promise<number | null>;
  /** Everything the main process and the host wrote. */
  log(): string;
  /** @throws Error when a page asked anything of the network */
  close(): Promise<void>;
}

export interface DesktopOptions {
  data: string;
  /** Where Electron keeps its own things. */
  profile: string;
  args?: string[];
  /** A host in Electron's utility process; without it the real one runs in this Node. */
  hostEntry?: string;
}

/** Bundles and fetches what is missing. */
export async function setUpDesktop(): Promise<void> {
  await setUpRenderer();
  await setUpElectronApp();
  await setUpElectron();
}

export async function startDesktop(options: DesktopOptions): Promise<Desktop> {
  const screen = await openScreen();
  const proxy = await startRefusingProxy();
  let output = "";
  const executablePath = await setUpElectron();
  const args = [
    // Only the system's sandbox is off, for root can't have it; the pages' settings are the app's.
    "--no-sandbox",
    "--disable-gpu",
    `--proxy-server=${proxy.server}`,
    `--user-data-dir=${options.profile}`,
    join(electronAppDist, "main.cjs"),
  ];
  const env = {
    ...(process.env as Record<string, string>),
    DISPLAY: screen.display,
    SCHOLIA_DATA: options.data,
    ...(options.hostEntry === undefined
      ? { SCHOLIA_HOST_NODE: process.execPath, SCHOLIA_HOST_ENTRY: join(root, "host", "main.ts") }
      : { SCHOLIA_HOST_ENTRY: options.hostEntry }),
  };
  const app = await _electron.launch({
    executablePath,
    args: [...args, ...(options.args ?? [])],
    env,
  });
  for (const stream of [app.process().stdout, app.process().stderr]) {
    stream?.setEncoding("utf8").on("data", (text) => (output += text));
  }
  const window = await app.firstWindow();
  return {
    app,
    window,
    again: (more) =>
      new Promise((resolve) => {
        const child = spawn(executablePath, [...args, ...more], { env, stdio: "ignore" });
        child.once("exit", (code) => resolve(code));
      }),
    log: () => output,
    async close() {
      await app.close();
      screen.process.kill();
      await proxy.close();
      const asked = proxy.taken();
      if (asked.length > 0) throw new Error(`asked of the network: ${asked.join(", ")}`);
    },
  };
}

export interface Screen {
  /** As `DISPLAY` names it. */
  display: string;
  process: ChildProcess;
}

/** A screen in memory (Xvfb); the system gives its number. */
export async function openScreen(): Promise<Screen> {
  const process = spawn(
    "Xvfb",
    ["-displayfd", "3", "-screen", "0", "1400x900x24", "-nolisten", "tcp"],
    {
      stdio: ["ignore", "ignore", "ignore", "pipe"],
    },
  );
  const number = await new Promise<string>((resolve, reject) => {
    process.once("error", () => reject(new Error("Xvfb is missing: apt-get install xvfb")));
    (process.stdio[3] as Readable).once("data", (data: Buffer) => resolve(data.toString().trim()));
  });
  return { display: `:${number}`, process };
}
