// What the window's process holds: after hundreds of answers, and with a manual of thousands of pages.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { pdfOf, textWith } from "../../e2e/madeUpDocuments.ts";
import { realDocumentPath } from "../../fixtures/realDocuments.ts";
import { addDocument, ask, round, type Served } from "./serve.ts";

/** More would not fit the small model's context. */
const answersInAChat = 50;

export async function measureAnswers(served: Served, answers: number) {
  const { page } = served;
  const path = join(served.folder, "boathouse.pdf");
  await writeFile(path, pdfOf([textWith(["The door code of Ida's boathouse is 48213."], 150)]));
  await addDocument(page, path);
  await page.getByText("Ready to read").waitFor();
  await setLongestAnswer(served, 24);
  await page.keyboard.press("Control+Shift+1");
  const rows = [{ answers: 0, ...(await memoryOf(served)) }];
  for (let answer = 1; answer <= answers; answer++) {
    if (answer % answersInAChat === 1) await page.keyboard.press("Control+n");
    await ask(page, `What is the door code of the boathouse, for time number ${answer}?`);
    if (answer === 1 || answer % answersInAChat === 0)
      rows.push({ answers: answer, ...(await memoryOf(served)) });
  }
  return rows;
}

async function setLongestAnswer({ page }: Served, tokens: number): Promise<void> {
  await page.keyboard.press("Control+,");
  await page.getByLabel("Longest answer").fill(`${tokens}`);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Escape");
}

/** Opened, and gone through from its first page to its last, twice: what only grows would show. */
export async function measureLongDocument(served: Served) {
  const { page } = served;
  const before = await memoryOf(served);
  const begin = performance.now();
  await addDocument(page, realDocumentPath("r-reference.pdf"));
  await page
    .getByRole("region", { name: /^Page / })
    .first()
    .locator("canvas:not([width='0'])")
    .waitFor();
  const openSeconds = round((performance.now() - begin) / 1000);
  const opened = await memoryOf(served);
  await goThrough(page);
  const goneThrough = await memoryOf(served);
  await goThrough(page);
  const goneThroughTwice = await memoryOf(served);
  // Pictures of pages that the browser keeps as long as there is room.
  await served.devtools.send("Memory.simulatePressureNotification", { level: "critical" });
  await page.waitForTimeout(3000);
  const whenRoomIsShort = await memoryOf(served);
  return { openSeconds, before, opened, goneThrough, goneThroughTwice, whenRoomIsShort };
}

async function goThrough(page: Page): Promise<void> {
  const pages = page.getByRole("region", { name: "Pages of the document" });
  for (let percent = 0; percent <= 100; percent++) {
    await pages.evaluate(
      (node, share) => node.scrollTo({ top: node.scrollHeight * share }),
      percent / 100,
    );
    await page.waitForTimeout(100);
  }
  await page.waitForTimeout(3000);
}

/** After the collector has run: JavaScript's heap, and the window's own process. */
async function memoryOf(served: Served) {
  const { page, devtools } = served;
  await devtools.send("HeapProfiler.collectGarbage");
  await page.waitForTimeout(200);
  await devtools.send("Performance.enable");
  const { metrics } = await devtools.send("Performance.getMetrics");
  const metric = (name: string) => metrics.find((each) => each.name === name)?.value ?? Number.NaN;
  return {
    heapMB: round(metric("JSHeapUsedSize") / 1e6),
    processMB: round((await privateBytes(served)) / 1e6),
    elements: metric("Nodes"),
  };
}

/** Of the process that renders the page: its own memory, without what it shares with others. */
async function privateBytes({ page }: Served): Promise<number> {
  const browser = await page.context().browser()!.newBrowserCDPSession();
  const { processInfo } = await browser.send("SystemInfo.getProcessInfo");
  await browser.detach();
  // A spare one waits for other sites.
  const [busiest] = processInfo
    .filter(({ type }) => type === "renderer")
    .sort((a, b) => b.cpuTime - a.cpuTime);
  const pid = busiest?.id;
  const rollup = await readFile(`/proc/${pid}/smaps_rollup`, "utf8");
  const kilobytes = [...rollup.matchAll(/^Private_\w+:\s+(\d+) kB$/gm)];
  return kilobytes.reduce((sum, [, kB]) => sum + Number(kB) * 1024, 0);
}
