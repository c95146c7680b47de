// How soon a letter that is typed stands on the screen, in a chat of hundreds of turns.
import type { Page } from "playwright-core";
import { writeLongChat } from "../../e2e/window/longChat.ts";
import { realDocumentPath } from "../../fixtures/realDocuments.ts";
import { addDocument, median, quantile, round, type Served } from "./serve.ts";

const typed = "Which of these answers says how a damaged file is mended?";

export async function measureTyping(served: Served, turns: number) {
  const { page } = served;
  const path = realDocumentPath("bzip2.pdf");
  await addDocument(page, path);
  await page.getByText("Longer than the model's context").waitFor();
  await writeLongChat(served.data, path, turns);
  await page.reload();
  await page.getByRole("article").last().waitFor();
  const opened = await typeIn(page);
  await scrollThrough(page);
  return { turns, opened, scrolledThrough: await typeIn(page) };
}

/** To the first turn, so that all have been shown. */
async function scrollThrough(page: Page): Promise<void> {
  const list = page.getByRole("region", { name: "Questions and answers" });
  const first = page.getByRole("article", { name: "What does section 1 say" });
  while ((await first.count()) === 0) {
    await list.evaluate((node) => node.scrollTo({ top: 0 }));
    await page.waitForTimeout(50);
  }
}

/** From each key to the end of the frame that shows its letter, as the page's own clock has it. */
async function typeIn(page: Page) {
  const field = page.locator("#composer");
  await field.fill("");
  await page.evaluate(() => {
    const keys: number[] = [];
    const channel = new MessageChannel();
    const waiting: number[] = [];
    // A message that is posted in a frame arrives when the frame has been painted.
    channel.port1.onmessage = () => keys.push(performance.now() - waiting.shift()!);
    document.querySelector("#composer")!.addEventListener("input", ({ timeStamp }) => {
      requestAnimationFrame(() => {
        waiting.push(timeStamp);
        channel.port2.postMessage(null);
      });
    });
    Object.assign(globalThis, { keys });
  });
  await field.focus();
  await page.keyboard.type(typed, { delay: 60 });
  const keys = await page.evaluate(() => (globalThis as unknown as { keys: number[] }).keys);
  return {
    keys: keys.length,
    latencyMs: { median: round(median(keys)), p95: round(quantile(keys, 0.95)) },
    longestMs: round(Math.max(...keys)),
    elements: await page.evaluate(() => document.querySelectorAll("*").length),
  };
}
