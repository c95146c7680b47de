// A person's way through a real document, on the real engine: told once, walked in every shell.
import { existsSync } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { Locator } from "playwright-core";
import { describe, expect, test } from "vitest";
import { openLibrary } from "../../../host/store/library.ts";
import { realDocumentPath } from "../../fixtures/realDocuments.ts";
import { outsideSockets } from "../network.ts";
import { drawnPicture, watchAnswer } from "./looks.ts";
import type { WindowShell } from "./shells.ts";

const manual = realDocumentPath("bzip2.pdf");
/** As many as the context of the small model holds with room for some questions. */
const range = "4-9";
const question = "What does bzip2recover do?";
const longQuestion = "Tell all that the document says, chapter by chapter.";

export function describeFlows(shell: WindowShell): void {
  const page = () => shell.page();
  const chat = (on = page()) => on.getByRole("region", { name: "Chat", exact: true });
  const turn = (name: string, on = page()) => chat(on).getByRole("article", { name }).last();
  const certificate = (name: string) => turn(name).getByText(/tokens · pages/);

  const ask = async (text: string) => {
    await page().locator("#composer").fill(text);
    await page().keyboard.press("Enter");
  };
  const setLongestAnswer = async (tokens: number) => {
    await page().keyboard.press("Control+,");
    await page().getByLabel("Longest answer").fill(`${tokens}`);
    await page().keyboard.press("Tab");
    await page().keyboard.press("Escape");
  };

  describe.skipIf(!existsSync(manual))("a real document", () => {
    test("is added, opened and shown as it looks", async () => {
      await shell.add(manual);
      const first = page().getByRole("region", { name: "Page 1", exact: true }).first();
      const picture = first.locator(drawnPicture);
      await picture.waitFor();
      expect(await pixelsAcross(picture)).toBeGreaterThan(400);
      await expect.poll(() => first.innerText()).toContain("bzip2");
    });

    test("is read, paused, and read to the end after the app was quit", async () => {
      await page().getByLabel("Pages", { exact: true }).fill(range);
      await page().getByRole("button", { name: "Count these pages" }).click();
      await page()
        .getByRole("button", { name: /^Read [\d,]+ tokens$/ })
        .click();
      const library = () => page().getByRole("navigation", { name: "Library" });
      await expect
        .poll(() => shell.place.runFiles(), { interval: 20, timeout: 60_000 })
        .not.toEqual([]);
      await library().getByRole("button", { name: "Pause reading" }).click();
      await library()
        .getByText(/^Paused · \d+ %$/)
        .waitFor();
      const saved = await savedReads(shell);
      await shell.restart();
      await library()
        .getByText(/^Paused · [1-9]\d* %$/)
        .waitFor();
      await library().getByRole("button", { name: "Go on reading" }).click();
      await library()
        .getByText(/· pages 4–9 read/)
        .waitFor({ timeout: 120_000 });
      // What was read before the app was quit was not read again.
      expect(await savedReads(shell)).toMatchObject(saved);
    });
  });

  describe.skipIf(!existsSync(manual))("an answer", () => {
    test("streams while the maps change, and ends with its certificate", async () => {
      await page().keyboard.press("Control+Shift+1");
      const heads = page().locator("[role=application]");
      await heads.focus();
      await page().keyboard.press("ArrowRight");
      await page().keyboard.press("Enter");
      const seen = await watchAnswer(page(), async () => {
        await ask(question);
        await certificate(question).waitFor({ timeout: 60_000 });
      });
      expect(seen.texts).toBeGreaterThan(3);
      expect(seen.readMaps).toBeGreaterThan(3);
      expect(seen.headStrips).toBeGreaterThan(3);
      expect(seen.moved).toEqual([]);
      expect(await certificate(question).textContent()).toMatch(
        /^([\d,]+) of \1 tokens · pages 4–9 of 38 · AB-Sparse [\d,]+$/,
      );
      await page().keyboard.press("Control+Shift+V");
    });

    test("leads from a citation to the passage, marked on its page", async () => {
      const cite = turn(question)
        .getByRole("button", { name: /^Citation 1, page/ })
        .first();
      const number = /page (\d+)$/.exec((await cite.getAttribute("aria-label")) ?? "")?.[1];
      await cite.click();
      const mark = page().locator(`section:has(> [data-page="${number}"]) [class*=cited]`).first();
      await mark.waitFor();
      await expect.poll(() => isInView(mark)).toBe(true);
      // Off the citation: its card would take the first Escape.
      await page().mouse.move(1, 1);
    });

    test("is stopped here, and seen to stop in a second window", async () => {
      await setLongestAnswer(1500);
      const second = await shell.another();
      await turn(question, second).waitFor();
      await ask(longQuestion);
      const streamed = turn(longQuestion, second);
      await expect.poll(() => textIn(streamed)).toMatch(/\w{3}/);
      await page().keyboard.press("Escape");
      for (const on of [page(), second]) {
        await chat(on).getByText("You stopped this answer. The text so far is kept.").waitFor();
        expect(await textIn(turn(longQuestion, on))).toMatch(/\w{3}/);
      }
      await second.close();
      await setLongestAnswer(32);
    });

    test("has another branch when its question is another", async () => {
      const other = "Which command tests the integrity of a file?";
      await turn(question).getByRole("button", { name: "Edit the question" }).click();
      await turn(question).getByRole("textbox", { name: "Edit the question" }).fill(other);
      await turn(question).getByRole("button", { name: "Ask", exact: true }).click();
      await certificate(other).waitFor({ timeout: 60_000 });
      await turn(other).getByText("2 of 2").waitFor();
      expect(await chat().getByRole("article").count()).toBe(1);
      await turn(other).getByRole("button", { name: "Earlier version" }).click();
      await turn(longQuestion).waitFor();
      await turn(question).getByRole("button", { name: "Later version" }).click();
      await turn(other).waitFor();
    });

    test("is kept as far as it got when the engine dies; the window goes on", async () => {
      await setLongestAnswer(1500);
      await ask(longQuestion);
      await expect.poll(() => textIn(turn(longQuestion))).toMatch(/\w{3}/);
      // What is written goes to the disk once a second.
      await page().waitForTimeout(1200);
      process.kill(await shell.host(), "SIGKILL");
      const said = page()
        .getByRole("alert")
        .or(page().getByRole("region", { name: "Messages" }));
      await said.getByText(/ended/).first().waitFor();
      // A host that lived long is started again without being asked.
      const again = page().getByRole("button", { name: "Start again" }).first();
      await again.click({ timeout: 3000 }).catch(() => {});
      await chat().getByText("The answer was interrupted.").waitFor();
      expect(await textIn(turn(longQuestion))).toMatch(/\w{3}/);
      await expect.poll(() => page().locator("#composer").isEnabled()).toBe(true);
      await setLongestAnswer(16);
      await ask("Who wrote bzip2?");
      await certificate("Who wrote bzip2?").waitFor({ timeout: 60_000 });
    });

    test("is there after a restart, and the next one needs no reading", async () => {
      await shell.restart();
      await certificate("Who wrote bzip2?").waitFor();
      const next = "What is a block?";
      await ask(next);
      await certificate(next).waitFor({ timeout: 60_000 });
      await certificate(next).click();
      const cached = turn(next).getByText(/tokens from memory, [\d,]+ from disk/);
      const fromDisk = count(/, ([\d,]+) from disk/, (await cached.textContent()) ?? "");
      const inDocument = count(/of ([\d,]+) tokens/, (await certificate(next).textContent()) ?? "");
      // All but the end of its last run of 1,024 tokens, which questions follow.
      expect(fromDisk).toBeGreaterThan(inDocument - 1024);
    });

    test("needs no network: nothing was asked of any other machine", async () => {
      expect(outsideSockets(await shell.host())).toEqual([]);
      // The host was killed on purpose.
      const others = shell.complaints.filter(
        (text) => !/ERR_CONNECTION|WebSocket|net::/.test(text),
      );
      expect(others).toEqual([]);
    });
  });
}

/** One pass with the model that people begin with, over all pages: minutes of reading. */
export function describeWholeDocument(shell: WindowShell): void {
  const isFull = Boolean(process.env.SCHOLIA_TEST_FULL) && existsSync(manual);
  const asked = "What does bzip2recover do?";
  test.runIf(isFull)("a whole document is read and answered", { timeout: 900_000 }, async () => {
    const library = await openLibrary(shell.place.data);
    library.settings.set({ model: "qwen2.5-coder-0.5b", threads: 0, maxTokens: 96 });
    library.close();
    await shell.restart();
    const page = shell.page();
    await page.getByRole("button", { name: "More about “bzip2.pdf”" }).click();
    await page.getByRole("menuitem", { name: "Read pages …" }).click();
    await page.getByRole("button", { name: /^Read [\d,]+ tokens$/ }).click();
    await page.getByText(/38 pages · read/).waitFor({ timeout: 600_000 });
    await page.locator("#composer").fill(asked);
    await page.keyboard.press("Enter");
    const turn = page.getByRole("article", { name: asked }).last();
    const line = turn.getByText(/tokens · pages/);
    await line.waitFor({ timeout: 120_000 });
    expect(await line.textContent()).toMatch(
      /^(2\d,\d{3}) of \1 tokens · pages 1–38 of 38 · AB-Sparse/,
    );
    expect(await textIn(turn)).toMatch(/bzip2recover/);
    await turn
      .getByRole("button", { name: /^Citation 1, page/ })
      .first()
      .click();
    await page.locator("[class*=cited]").first().waitFor();
  });
}

/** The run files and when each was written. */
async function savedReads({ place }: WindowShell): Promise<Record<string, number>> {
  const times: Record<string, number> = {};
  for (const name of await place.runFiles())
    times[name] = (await stat(join(place.data, "reads", name))).mtimeMs;
  return times;
}

const pixelsAcross = (picture: Locator): Promise<number> =>
  picture.evaluate((node: HTMLCanvasElement) => node.width);

/** The answer's text, without the question and what can be done with it; also where it is out of view and
 * not laid out. */
const textIn = (turn: Locator): Promise<string> =>
  turn
    .locator("[class*=markdown]")
    .allTextContents()
    .then((texts) => texts.join("\n"));

const isInView = (node: Locator): Promise<boolean> =>
  node.evaluate((element) => {
    const { left, top, width, height } = element.getBoundingClientRect();
    const shown = document.elementsFromPoint(left + width / 2, top + height / 2);
    return shown.includes(element) || shown.some((other) => element.parentElement === other);
  });

function count(pattern: RegExp, text: string): number {
  const found = pattern.exec(text)?.[1];
  if (found === undefined) throw new Error(`${pattern} is not in: ${text}`);
  return Number(found.replaceAll(",", ""));
}
