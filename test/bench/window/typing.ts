// How soon a letter that is typed stands on the screen, in a chat of hundreds of turns.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Page } from "playwright-core";
import type { Citation } from "../../../contract/answer.ts";
import { openLibrary } from "../../../host/store/library.ts";
import { realDocumentPath } from "../../fixtures/realDocuments.ts";
import { answerOf } from "../../unit/store/answerOf.ts";
import { addDocument, median, quantile, round, type Served } from "./serve.ts";

const typed = "Which of these answers says how a damaged file is mended?";

export async function measureTyping(served: Served, turns: number) {
  const { page } = served;
  const path = realDocumentPath("bzip2.pdf");
  await addDocument(page, path);
  await page.getByText("Longer than the model's context").waitFor();
  await writeChat(served.data, path, turns);
  await page.reload();
  await page.getByRole("article").last().waitFor();
  const opened = await typeIn(page);
  await scrollThrough(page, turns);
  return { turns, opened, scrolledThrough: await typeIn(page) };
}

/** Rows as the host itself would have written them. */
async function writeChat(data: string, path: string, turns: number): Promise<void> {
  const library = await openLibrary(data);
  const { chats } = library;
  const documentId = createHash("sha256")
    .update(await readFile(path))
    .digest("hex");
  const chatId = chats.create({ documentId, path, pages: null });
  for (let turn = 0; turn < turns; turn++) {
    const { turnId } = chats.ask(chatId, {
      question: `What does section ${turn + 1} say about damaged blocks?`,
      runId: crypto.randomUUID(),
      mode: "ab-sparse",
      budgetTokens: 2048,
      pages: null,
    });
    chats.answered(turnId, answerOf(text, { citations }), null);
  }
  library.close();
}

const text = [
  "Each block is handled **independently**, so an error in one leaves the others whole.",
  "- `bzip2recover` searches for the blocks and writes each into its own file.\n- `bzip2 -t` tests the files that come of it.",
  "| option | meaning |\n|---|---|\n| `-t` | test |\n| `-d` | decompress |",
  "Blocks are marked by a pattern of 48 bits; their checksums tell the good from the damaged.",
].join("\n\n");

const citations = [0, 1, 2].map(
  (sentence): Citation => ({
    quote: "bzip2recover is a simple program whose purpose is to search for blocks in .bz2 files",
    page: 9,
    verified: true,
    from: "quotation",
    match: "exact",
    start: 12_000,
    end: 12_090,
    sentence,
    boxes: [{ page: 9, left: 70, top: 200, width: 300, height: 10 }],
  }),
);

/** To the first turn, so that all have been shown. */
async function scrollThrough(page: Page, turns: number): Promise<void> {
  const list = page.getByRole("region", { name: "Questions and answers" });
  for (;;) {
    await list.evaluate((node) => node.scrollTo({ top: 0 }));
    await page.waitForTimeout(50);
    const first = page.getByRole("article", { name: "What does section 1 say" });
    if ((await first.count()) > 0 || turns === 0) break;
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
