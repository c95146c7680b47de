// A server, a browser and a window for one measurement.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { CDPSession, Page } from "playwright-core";
import { root } from "../../../build/paths.ts";
import { setUpRenderer } from "../../../build/renderer.ts";
import { openLibrary } from "../../../host/store/library.ts";
import { startRefusingProxy } from "../../e2e/refusingProxy.ts";
import { launchChromium } from "../../e2e/window/launchChromium.ts";

export interface Served {
  /** For documents; the data folder lies in it. */
  readonly folder: string;
  readonly data: string;
  readonly page: Page;
  readonly devtools: CDPSession;
  close(): Promise<void>;
}

export async function serveWindow(folder: string): Promise<Served> {
  await setUpRenderer();
  const data = join(folder, "data");
  await mkdir(data);
  const library = await openLibrary(data);
  library.settings.set({ model: "smollm2-135m", threads: 1, maxTokens: 512 });
  library.close();
  const server = spawn(
    process.execPath,
    [join(root, "cli", "main.ts"), "serve", "--json", "--port", "0"],
    { env: { ...process.env, SCHOLIA_DATA: data }, stdio: ["ignore", "pipe", "inherit"] },
  );
  const [line] = (await once(createInterface(server.stdout), "line")) as [string];
  const proxy = await startRefusingProxy();
  const browser = await launchChromium(proxy);
  const context = await browser.newContext({ viewport: { width: 1400, height: 900 } });
  const page = await context.newPage();
  page.setDefaultTimeout(120_000);
  await page.goto(JSON.parse(line).url);
  return {
    folder,
    data,
    page,
    devtools: await context.newCDPSession(page),
    async close() {
      await browser.close();
      server.kill("SIGINT");
      await once(server, "exit");
      await proxy.close();
    },
  };
}

/** Adds a file as the person's own choice in the file dialog. */
export async function addDocument(page: Page, path: string): Promise<void> {
  const asked = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: "Add documents" }).click();
  await (await asked).setFiles(path);
}

/** Asks, and waits for the certificate of the last answer: of a long chat the last turns are shown. */
export async function ask(page: Page, question: string): Promise<void> {
  await page.locator("#composer").fill(question);
  await page.keyboard.press("Enter");
  await page.waitForFunction(
    (question) => {
      const last = [...document.querySelectorAll("article")].at(-1);
      return (
        last?.getAttribute("aria-label") === question &&
        last.getAttribute("aria-busy") === null &&
        [...last.querySelectorAll("summary")].some((node) =>
          /tokens · pages? /.test(node.textContent),
        )
      );
    },
    question,
    { polling: 200 },
  );
}

export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);
export const round = (value: number): number => Math.round(value * 100) / 100;
