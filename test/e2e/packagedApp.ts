// The packaged desktop app as an installed one runs: its own program with its own archive, no Node beside
// it. Its fuses refuse a debugger of Node's, so the window is reached as in any Chromium.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chromium, type Page } from "playwright-core";
import { openScreen } from "./desktop.ts";
import { until } from "./scholia.ts";

export interface PackagedApp {
  window: Page;
  process: ChildProcess;
  /** Everything that it wrote. */
  log(): string;
  /** Quits as the last window's closing does. */
  close(): Promise<void>;
}

export interface PackagedOptions {
  program: string;
  data: string;
  /** Where Electron keeps its own things. */
  profile: string;
  /** Documents to open. */
  files: string[];
  env?: NodeJS.ProcessEnv;
}

export async function startPackaged(options: PackagedOptions): Promise<PackagedApp> {
  const screen = await openScreen();
  const args = [
    // Only the system's sandbox is off, for root can't have it.
    "--no-sandbox",
    "--disable-gpu",
    "--remote-debugging-port=0",
    `--user-data-dir=${options.profile}`,
    ...options.files,
  ];
  const app = spawn(options.program, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...options.env, DISPLAY: screen.display, SCHOLIA_DATA: options.data },
  });
  let output = "";
  for (const stream of [app.stdout, app.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => (output += text));
  }
  const exited = once(app, "exit");
  const address = await until(() => {
    if (app.exitCode !== null) throw new Error(`ended with ${app.exitCode}: ${output}`);
    return /DevTools listening on (ws:\S+)/.exec(output)?.[1];
  }, 30);
  // Electron has no browser whose downloads could be set, say.
  const browser = await chromium.connectOverCDP(address, { noDefaults: true });
  const window = await until(() => browser.contexts()[0]?.pages()[0], 30);
  window.setDefaultTimeout(60_000);
  return {
    window,
    process: app,
    log: () => output,
    async close() {
      await window.close();
      await exited;
      await browser.close();
      screen.process.kill();
    },
  };
}
