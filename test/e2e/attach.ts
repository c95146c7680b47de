// Reaches the window of an Electron that refuses a debugger of Node's, as any Chromium is reached.
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { type Browser, chromium, type Page } from "playwright-core";

/** To be started with. */
export const attachable = "--remote-debugging-port=0";

export interface Attached {
  browser: Browser;
  window: Page;
}

/** @param app its output is piped, and hears what it says from now on
 * @throws when it ends before it has a window */
export async function attach(app: ChildProcess): Promise<Attached> {
  const ended = once(app, "exit").then(([code]) => {
    throw new Error(`the app ended with ${code}`);
  });
  const address = await Promise.race([debuggerOf(app), ended]);
  // Electron has no browser whose downloads could be set, say.
  const browser = await chromium.connectOverCDP(address, { noDefaults: true });
  const [context] = browser.contexts();
  if (context === undefined) throw new Error("the app has no windows");
  const window = context.pages()[0] ?? (await context.waitForEvent("page"));
  return { browser, window };
}

function debuggerOf({ stderr }: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    let said = "";
    stderr?.setEncoding("utf8").on("data", (text) => {
      said += text;
      const address = /DevTools listening on (ws:\S+)/.exec(said)?.[1];
      if (address !== undefined) resolve(address);
    });
  });
}
