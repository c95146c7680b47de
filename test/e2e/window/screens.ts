// `npm run screens`: a picture of every screen in both themes, of the real window with real documents
// (build/documents.ts), into docs/screens/. `--data FOLDER` keeps what is read for the next time.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Browser, chromium, type Page } from "playwright-core";
import { root } from "../../../build/paths.ts";
import { setUpRenderer } from "../../../build/renderer.ts";
import { findProgram } from "../../../build/tools.ts";
import { realDocumentPath } from "../../fixtures/realDocuments.ts";
import { drawnPicture } from "./looks.ts";

const { values: options } = parseArgs({
  options: {
    model: { type: "string", default: "qwen2.5-coder-0.5b" },
    document: { type: "string", default: "libtasn1.pdf" },
    question: { type: "string", default: "What does asn1Parser do?" },
    data: { type: "string" },
    out: { type: "string", default: join(root, "docs", "screens") },
  },
});

/** As large as a small laptop shows it. */
const size = { width: 1280, height: 800 };
const patience = 900_000;

const chat = (page: Page) => page.getByRole("region", { name: "Chat", exact: true });
const certificates = (page: Page) => chat(page).getByText(/tokens · pages/);

await setUpRenderer();
await mkdir(options.out, { recursive: true });
const kept = options.data;
const data = kept ?? (await mkdtemp(join(tmpdir(), "scholia-screens-")));
const executablePath = findProgram("chromium", "chromium-browser", "google-chrome");
if (executablePath === undefined) throw new Error("no Chromium here");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const { server, url } = await serve();
try {
  const page = await open(browser);
  await firstRun(page);
  await read(page);
  await answer(page);
  await lenses(page);
  await dialogs(page);
  await narrow(page);
} finally {
  await browser.close();
  server.kill("SIGINT");
  if (kept === undefined) await rm(data, { recursive: true, force: true });
}

async function serve(): Promise<{ server: ChildProcess; url: string }> {
  const args = ["serve", "--json", "--port", "0", "--model", options.model, "--data", data];
  const server = spawn(process.execPath, [join(root, "cli", "main.ts"), ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let out = "";
  return new Promise((resolve, reject) => {
    server.once("exit", (code) => reject(new Error(`the server ended with ${code}`)));
    server.stdout!.setEncoding("utf8").on("data", (text) => {
      out += text;
      if (out.includes("\n")) resolve({ server, url: JSON.parse(out).url });
    });
  });
}

async function open(browser: Browser): Promise<Page> {
  const context = await browser.newContext({
    viewport: size,
    colorScheme: "light",
    reducedMotion: "reduce",
  });
  const page = await context.newPage();
  page.setDefaultTimeout(patience);
  await page.goto(url);
  return page;
}

/** The screen as it is now, light and dark. */
async function picture(page: Page, name: string): Promise<void> {
  for (const theme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: theme as "light" | "dark" });
    // Pictures of pages and maps are drawn after the text.
    await page.waitForTimeout(700);
    const path = join(options.out, `${name}-${theme}.jpg`);
    // Folders of the machine are nobody's business.
    const mask = [page.getByText(/(^|\s)\/\w[\w.-]*\/[\w.]/)];
    await page.screenshot({ path, type: "jpeg", quality: 84, mask, maskColor: "#b8b0a4" });
  }
  await page.emulateMedia({ colorScheme: "light" });
  process.stdout.write(`${name}\n`);
}

async function firstRun(page: Page): Promise<void> {
  await page.getByRole("navigation", { name: "Library" }).waitFor();
  const sample = page.getByRole("button", { name: "Try the sample" });
  if (!(await sample.isVisible())) return;
  await picture(page, "01-first-start");
  await sample.click();
  await page.getByText(/read, [\d.]+ .B/).waitFor();
  await picture(page, "02-sample");
}

/** The document before it is read, and while it is. */
async function read(page: Page): Promise<void> {
  const names = ["fhs.pdf", "r-data.pdf", options.document];
  for (const name of names) await addFile(page, name);
  const begin = page.getByRole("button", { name: /^Read [\d,]+ tokens$/ });
  const isRead = page.locator("[data-open=true]").getByText(/read, [\d.]+ .B/);
  await begin.or(isRead).first().waitFor();
  if (await isRead.isVisible()) return;
  await picture(page, "03-before-reading");
  await begin.click();
  await page
    .getByText(/tokens\/s/)
    .first()
    .waitFor();
  await page.locator("#composer").click();
  await page.waitForTimeout(15_000);
  await picture(page, "04-reading");
  await isRead.waitFor();
}

async function addFile(page: Page, name: string): Promise<void> {
  const asked = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: "Add documents" }).click();
  await (await asked).setFiles(realDocumentPath(name));
  await page.getByRole("region", { name: "Page 1", exact: true }).locator(drawnPicture).waitFor();
}

async function answer(page: Page): Promise<void> {
  await page.keyboard.press("Control+Shift+1");
  await ask(page, "Explain in detail how an element is created, written, read and deleted.");
  await page.getByText(/^Writing · \d\d/).waitFor();
  await page.getByLabel("What the colours show").selectOption("blocksRead");
  await picture(page, "05-writing");
  await page.keyboard.press("Escape");
  await page.getByText("You stopped this answer.").waitFor();
  await page.keyboard.press("Control+Shift+V");
  await ask(page, options.question);
  await certificates(page).last().waitFor();
  const citation = page.getByRole("button", { name: /^Citation 1, page/ }).first();
  await citation.click();
  await page.locator("[class*=cited]").first().waitFor();
  await citation.hover();
  await page.locator("[data-radix-popper-content-wrapper] blockquote").waitFor();
  await picture(page, "06-answer");
  await page.mouse.move(0, 0);
  await page.keyboard.press("Control+f");
  await page.keyboard.type("structure");
  await page
    .getByText(/^\d+ of \d+$/)
    .first()
    .waitFor();
  await picture(page, "07-find");
  await page.keyboard.press("Escape");
}

async function ask(page: Page, question: string): Promise<void> {
  await page.getByRole("button", { name: "New chat" }).first().click();
  await page.locator("#composer").fill(question);
  await page.keyboard.press("Enter");
}

async function lenses(page: Page): Promise<void> {
  await page.keyboard.press("Control+Shift+1");
  await page.getByLabel("What the colours show").selectOption("blockTokens");
  await page.locator("[role=application]").focus();
  for (let i = 0; i < 5; i++) await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Enter");
  await picture(page, "08-heads");
  await page.keyboard.press("Control+Shift+2");
  await picture(page, "09-memory");
  await page.keyboard.press("Control+Shift+3");
  await picture(page, "10-timing");
  await chat(page).getByRole("button", { name: "Compare with dense" }).last().click();
  await chat(page)
    .getByText(/· Dense$/)
    .last()
    .waitFor();
  await chat(page).getByRole("button", { name: "Compare both" }).last().click();
  await picture(page, "11-compare");
  await page.keyboard.press("Control+Shift+V");
}

async function dialogs(page: Page): Promise<void> {
  await page.keyboard.press("Control+,");
  await page.getByRole("dialog").getByRole("tab").first().waitFor();
  const tabs = await page.getByRole("dialog").getByRole("tab").all();
  for (const [i, tab] of tabs.entries()) {
    await tab.click();
    const name = (await tab.innerText()).toLowerCase().replaceAll(" ", "-");
    await page.getByText("Checking …").waitFor({ state: "detached" });
    await picture(page, `${12 + i}-settings-${name}`);
  }
  await page.keyboard.press("Escape");
  await page.keyboard.press("Control+k");
  await page.getByPlaceholder(/^A command/).fill("lens");
  await picture(page, "18-palette");
  await page.keyboard.press("Escape");
}

async function narrow(page: Page): Promise<void> {
  await page.setViewportSize({ width: 420, height: 800 });
  await page
    .getByRole("navigation", { name: "Panes" })
    .getByRole("button", { name: "Chat" })
    .click();
  await picture(page, "19-narrow");
}
