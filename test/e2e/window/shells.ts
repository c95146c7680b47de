// The two shells that show the window, behind one description, so that a flow is told once and walked in
// both: Chromium on `scholia serve`, and Electron on a screen in memory.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Browser, BrowserContext, Frame, Page } from "playwright-core";
import { afterAll, beforeAll, expect } from "vitest";
import { setUpRenderer } from "../../../build/renderer.ts";
import type { DesktopBridge } from "../../../contract/shell.ts";
import { openLibrary } from "../../../host/store/library.ts";
import { type Desktop, setUpDesktop, startDesktop } from "../desktop.ts";
import { type RefusingProxy, startRefusingProxy } from "../refusingProxy.ts";
import { hostOf, type Place, type Running, until, usePlace } from "../scholia.ts";
import { isOfAPage, launchChromium } from "./launchChromium.ts";

export interface WindowShell {
  readonly place: Place;
  /** The window that is open now. */
  page(): Page;
  /** One more window or tab. */
  another(): Promise<Page>;
  /** Adds a file as the person's own choice in the file dialog. */
  add(path: string): Promise<void>;
  /** The process that owns the engine. */
  host(): Promise<number>;
  /** Quits as a person does, and starts again with the same data. */
  restart(): Promise<void>;
  /** What pages complained of, and what they asked of other places than their own shell. */
  readonly complaints: string[];
}

export interface BrowserShell extends WindowShell {
  /** The address that the server printed. */
  url(): string;
  browser(): Browser;
  proxy(): RefusingProxy;
  /** A tab in a browser's profile of its own. */
  visit(options?: { width?: number; height?: number; dark?: boolean }): Promise<Page>;
}

/** The model of the tests on one thread, and answers short enough for them. Its own budget would be a
 * smaller one, with which the answer that the tests interrupt ends before they do. */
async function chooseSmallModel(data: string): Promise<void> {
  await mkdir(data, { recursive: true });
  const library = await openLibrary(data);
  library.settings.set({ model: "smollm2-135m", threads: 1, budgetTokens: 2048, maxTokens: 64 });
  library.close();
}

/** A server and a browser for all tests of a file. */
export function useBrowserShell(): BrowserShell {
  const place = usePlace();
  const complaints: string[] = [];
  let server: Running;
  let url: string;
  let browser: Browser;
  let proxy: RefusingProxy;
  let page: Page;

  const start = async () => {
    server = place.start(["serve", "--json", "--port", "0"]);
    url = await until(() => {
      if (server.child.exitCode !== null) throw new Error(server.err());
      return server.out().includes("\n") ? JSON.parse(server.out()).url : undefined;
    });
  };
  const stop = async () => {
    server?.signal("SIGINT");
    await server?.finished;
  };
  const visit: BrowserShell["visit"] = async ({ width = 1280, height = 800, dark } = {}) => {
    const context = await browser.newContext({
      viewport: { width, height },
      colorScheme: dark ? "dark" : "light",
      reducedMotion: "reduce",
    });
    listen(context, new URL(url).origin, complaints);
    const opened = await context.newPage();
    await opened.goto(url);
    return ready(opened);
  };

  beforeAll(async () => {
    await setUpRenderer();
    await chooseSmallModel(place.data);
    proxy = await startRefusingProxy();
    browser = await launchChromium(proxy);
    await start();
    page = await visit();
  });
  afterAll(async () => {
    await browser?.close();
    await stop();
    await proxy?.close();
    expect(proxy?.taken().filter(isOfAPage), "asked of the network").toEqual([]);
  });

  return {
    place,
    complaints,
    page: () => page,
    url: () => url,
    browser: () => browser,
    proxy: () => proxy,
    visit,
    async another() {
      const opened = await page.context().newPage();
      await opened.goto(page.url());
      return ready(opened);
    },
    async add(path) {
      const asked = page.waitForEvent("filechooser");
      await page.getByRole("button", { name: "Add documents" }).click();
      await (await asked).setFiles(path);
    },
    host: () => hostOf(server),
    async restart() {
      await page.context().close();
      await stop();
      await start();
      page = await visit();
    },
  };
}

/** The desktop app for all tests of a file. */
export function useDesktopShell(): WindowShell & { desktop(): Desktop } {
  const place = usePlace();
  const complaints: string[] = [];
  let desktop: Desktop;
  const start = async () => {
    desktop = await startDesktop({ data: place.data, profile: join(place.folder, "profile") });
    listen(desktop.app.context(), "scholia-app://window", complaints);
    await desktop.window.emulateMedia({ reducedMotion: "reduce" });
    ready(desktop.window);
  };
  beforeAll(async () => {
    await setUpDesktop();
    await chooseSmallModel(place.data);
    await start();
  });
  afterAll(() => desktop?.close());

  return {
    place,
    complaints,
    desktop: () => desktop,
    page: () => desktop.window,
    async another() {
      const opened = desktop.app.waitForEvent("window");
      await callShell(desktop.window, "window.open", { shows: "all" });
      return ready(await opened);
    },
    async add(path) {
      await desktop.app.evaluate(({ dialog }, chosen) => {
        dialog.showOpenDialog = async () => ({ canceled: false, filePaths: [chosen] });
      }, path);
      await desktop.window.getByRole("button", { name: "Add documents" }).click();
    },
    async host() {
      const state = (await callShell(desktop.window, "shell.state")) as {
        value: { host: { pid: number } };
      };
      return state.value.host.pid;
    },
    async restart() {
      await desktop.close();
      await start();
    },
  };
}

/** What the desktop's page gets from its door. */
export const callShell = (
  page: Page | Frame,
  action: string,
  input: unknown = {},
): Promise<unknown> =>
  page.evaluate(
    ([action, input]) =>
      (globalThis as unknown as { scholia: DesktopBridge }).scholia.call(action as string, input),
    [action, input],
  );

function ready(page: Page): Page {
  page.setDefaultTimeout(30_000);
  return page;
}

function listen(context: BrowserContext, origin: string, complaints: string[]): void {
  context.on("request", (request) => {
    const address = new URL(request.url());
    if (address.protocol === "blob:" || request.url().startsWith(`${origin}/`)) return;
    complaints.push(`asked for ${request.url()}`);
  });
  context.on("weberror", (error) => complaints.push(`${error.error().stack}`));
  context.on("console", (message) => {
    if (message.type() === "error") complaints.push(message.text());
  });
}
