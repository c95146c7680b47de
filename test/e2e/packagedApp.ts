// The packaged desktop app as an installed one runs: its own program with its own archive, no Node beside
// it.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Page } from "playwright-core";
import { attach, attachable } from "./attach.ts";
import { openScreen } from "./desktop.ts";
import { startRefusingProxy } from "./refusingProxy.ts";

export interface PackagedApp {
  window: Page;
  process: ChildProcess;
  /** Quits as closing the last window does.
   * @throws Error when it asked anything of the network */
  close(): Promise<void>;
}

export interface PackagedOptions {
  program: string;
  data: string;
  /** Where Electron keeps its own things. */
  profile: string;
  /** Documents to open. */
  files: string[];
}

export async function startPackaged(options: PackagedOptions): Promise<PackagedApp> {
  const screen = await openScreen();
  const proxy = await startRefusingProxy();
  const flags = [
    // Only the system's sandbox is off, for root can't have it.
    "--no-sandbox",
    "--disable-gpu",
    attachable,
    `--proxy-server=${proxy.server}`,
    `--user-data-dir=${options.profile}`,
  ];
  const app = spawn(options.program, [...flags, ...options.files], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, DISPLAY: screen.display, SCHOLIA_DATA: options.data },
  });
  app.stdout.resume();
  const exited = once(app, "exit");
  const { browser, window } = await attach(app);
  window.setDefaultTimeout(60_000);
  return {
    window,
    process: app,
    async close() {
      await window.close();
      await exited;
      await browser.close();
      screen.process.kill();
      await proxy.close();
      const asked = proxy.taken();
      if (asked.length > 0) throw new Error(`asked of the network: ${asked.join(", ")}`);
    },
  };
}
