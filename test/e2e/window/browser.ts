// The window in Chromium, served by `scholia serve` on the real engine and the small model.
import axe from "axe-core";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, expect } from "vitest";
import { setUpRenderer } from "../../../build/renderer.ts";
import { findProgram } from "../../../build/tools.ts";
import { type Place, type Running, small, until, usePlace } from "../scholia.ts";

export interface Window {
  readonly place: Place;
  /** The server's process, whose one child is the host. */
  server(): Running;
  /** A page of its own, opened by the address that the server printed. */
  open(options?: { width?: number; height?: number; dark?: boolean }): Promise<Page>;
  /** What pages complained of, and what they asked of other places than the server. */
  readonly complaints: string[];
}

/** A server and a browser for all tests of a file. */
export function useWindow(): Window {
  const place = usePlace();
  const complaints: string[] = [];
  let server: Running;
  let url: string;
  let browser: Browser;

  beforeAll(async () => {
    await setUpRenderer();
    const executablePath = findProgram("chromium", "chromium-browser", "google-chrome");
    if (executablePath === undefined)
      throw new Error("no Chromium here (Debian, Ubuntu: apt-get install chromium)");
    server = place.start(["serve", "--json", "--port", "0", ...small]);
    url = await until(() => {
      if (server.child.exitCode !== null) throw new Error(server.err());
      return server.out().includes("\n") ? JSON.parse(server.out()).url : undefined;
    });
    browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  });
  afterAll(async () => {
    await browser?.close();
    server?.signal("SIGINT");
    await server?.finished;
  });

  return {
    place,
    server: () => server,
    complaints,
    async open({ width = 1280, height = 800, dark = false } = {}) {
      const context = await browser.newContext({
        viewport: { width, height },
        colorScheme: dark ? "dark" : "light",
        reducedMotion: "reduce",
      });
      listen(context, new URL(url).origin, complaints);
      const page = await context.newPage();
      page.setDefaultTimeout(30_000);
      await page.goto(url);
      return page;
    },
  };
}

function listen(context: BrowserContext, origin: string, complaints: string[]): void {
  context.on("request", (request) => {
    const address = new URL(request.url());
    if (address.protocol === "blob:" || address.origin === origin) return;
    complaints.push(`asked for ${request.url()}`);
  });
  context.on("weberror", (error) => complaints.push(`${error.error().stack}`));
  context.on("console", (message) => {
    if (message.type() === "error") complaints.push(message.text());
  });
}

/** What axe-core finds serious on the page as it is now. */
export async function seriousFindings(page: Page): Promise<string[]> {
  // Evaluated, not added as a script: the page's policy allows its own scripts only.
  await page.evaluate(axe.source);
  const violations = await page.evaluate(async () => {
    const { violations } = await (globalThis as unknown as { axe: typeof axe }).axe.run(document, {
      resultTypes: ["violations"],
    });
    return violations.map(({ id, impact, nodes }) => ({
      impact,
      text: `${id}: ${nodes.map(({ target }) => target.join(" ")).join(", ")}`,
    }));
  });
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ text }) => text);
}

/** Colours of a canvas, without the see-through. */
export const coloursOf = (page: Page, selector: string): Promise<number> =>
  page.locator(selector).evaluate((canvas: HTMLCanvasElement) => {
    const { data } = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height);
    const colours = new Set<number>();
    for (let at = 0; at < data.length; at += 4)
      if (data[at + 3] === 255)
        colours.add(data[at]! * 65_536 + data[at + 1]! * 256 + data[at + 2]!);
    return colours.size;
  });

/** Adds files as the person's own choice in the file dialog. */
export async function addFiles(page: Page, files: { name: string; content: Buffer }[]) {
  const asked = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: "Add documents" }).click();
  await (await asked).setFiles(
    files.map(({ name, content }) => ({
      name,
      mimeType: "application/octet-stream",
      buffer: content,
    })),
  );
  await expect
    .poll(() => page.getByRole("navigation", { name: "Library" }).innerText())
    .toContain(files[0]!.name);
}
