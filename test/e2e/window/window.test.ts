// The window in a real browser, from the first document to the answer after a crash.
import type { Page } from "playwright-core";
import { beforeAll, describe, expect, test, vi } from "vitest";
import { hostOf, pdfOf, textWith } from "../scholia.ts";
import { addFiles, coloursOf, seriousFindings, useWindow } from "./browser.ts";

vi.setConfig({ testTimeout: 180_000, hookTimeout: 300_000 });

const window = useWindow();
const code = "The door code of Ida's boathouse is 48213.";
const question = "What is the door code of Ida's boathouse?";
let page: Page;

beforeAll(async () => {
  page = await window.open();
});

const chat = () => page.getByRole("region", { name: "Chat", exact: true });
const certificate = () =>
  chat()
    .getByText(/\d of \d+ tokens · pages/)
    .or(chat().getByText(/tokens · pages/));

async function setLongestAnswer(tokens: number) {
  await page.keyboard.press("Control+,");
  await page.getByLabel("Longest answer").fill(`${tokens}`);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Escape");
}

describe("a document", () => {
  test("is added, opened and shown as it looks, with its words over it", async () => {
    await page.getByRole("heading", { name: "Ask a whole document" }).waitFor();
    const texts = [1, 2, 3].map((seed) => textWith(seed === 2 ? [code] : [], 150, seed));
    await addFiles(page, [{ name: "boathouse.pdf", content: pdfOf(texts) }]);
    const first = page.getByRole("region", { name: "Page 1", exact: true });
    await first.locator("img").waitFor();
    expect(
      await first.locator("img").evaluate((image: HTMLImageElement) => image.naturalWidth),
    ).toBeGreaterThan(400);
    expect((await first.innerText()).length).toBeGreaterThan(300);
  });

  test("is searched, and what is found is marked on its page", async () => {
    await page.keyboard.press("Control+f");
    await page.keyboard.type("door code");
    await page.getByText("1 of 1", { exact: true }).waitFor();
    await page
      .getByRole("region", { name: "Page 2", exact: true })
      .locator("[class*=foundNow]")
      .first()
      .waitFor();
    await page.keyboard.press("Escape");
    await page.getByLabel("Find in the document").locator("input").waitFor({ state: "detached" });
  });

  test("is counted before it is read, then read", async () => {
    await setLongestAnswer(48);
    await page.getByText("Ready to read").waitFor();
    await page.getByText("All 3 pages have text").waitFor();
    await page.getByRole("button", { name: /^Read [\d,]+ tokens$/ }).click();
    await page.getByText(/3 pages · read/).waitFor();
  });
});

describe("an answer", () => {
  test("streams, ends with its certificate, and cites what it rests on", async () => {
    await page.locator("#composer").fill(question);
    await page.keyboard.press("Enter");
    await certificate().waitFor();
    expect(await certificate().innerText()).toMatch(
      /^([\d,]+) of \1 tokens · pages 1–3 of 3 · AB-Sparse 2,048$/,
    );
    expect(await chat().locator("article [data-sentence]").count()).toBeGreaterThan(0);
  });

  test("leads from a citation to the marked passage on its page", async () => {
    const cite = chat()
      .getByRole("button", { name: /^Citation 1, page/ })
      .first();
    await cite.focus();
    await page.locator("[data-radix-popper-content-wrapper] blockquote").waitFor();
    await cite.click();
    await page.locator("[class*=cited]").first().waitFor();
  });

  test("is drawn in the maps", async () => {
    expect(await coloursOf(page, "[role=slider] canvas")).toBeGreaterThan(3);
    await page.keyboard.press("Control+Shift+1");
    await page.getByText("68 heads").waitFor();
    await expect.poll(() => coloursOf(page, "[role=application] canvas")).toBeGreaterThan(4);
    await page.getByLabel("What the colours show").selectOption("massKept");
    await page.getByText("100 %", { exact: true }).first().waitFor();
    await page.getByLabel("What the colours show").selectOption("blocksRead");
    await expect.poll(() => coloursOf(page, "[role=application] canvas")).toBeGreaterThan(2);
    await page.getByLabel("What the colours show").selectOption("budgetShare");
    await page.getByLabel("Compared with").selectOption("uniform");
    await expect.poll(() => coloursOf(page, "[role=application] canvas")).toBeGreaterThan(4);
    await page.getByLabel("Compared with").selectOption("none");
    await page.locator("[role=application]").focus();
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("Enter");
    await page.getByRole("complementary", { name: /^Layer \d+ · KV head \d+$/ }).waitFor();
    await page.keyboard.press("t");
    expect(await page.getByRole("region", { name: "As a table" }).locator("tbody tr").count()).toBe(
      90,
    );
    await page.keyboard.press("Control+Shift+2");
    await page.getByRole("img", { name: /^Memory: .*Weights/i }).waitFor();
    await page.getByRole("button", { name: "What if …" }).click();
    const context = page.getByRole("slider", { name: "Context" });
    await context.press("Home");
    await page.getByText("1,024 tokens").waitFor();
    await page.getByText(/that there are$/).waitFor();
    await page.keyboard.press("Control+Shift+3");
    await page.getByRole("img", { name: /^Writing: tokens per second/ }).waitFor();
    await page.getByRole("button", { name: "Measure", exact: true }).click();
    await page.getByRole("row", { name: /^Whole step/ }).waitFor();
  });

  test("is given again densely, and both are compared", async () => {
    await chat().getByRole("button", { name: "Compare with dense" }).click();
    await chat()
      .getByText(/pages 1–3 of 3 · Dense$/)
      .waitFor();
    await chat().getByText("2 of 2").waitFor();
    await chat().getByRole("button", { name: "Compare both" }).click();
    await page.getByRole("region", { name: "AB-Sparse 2,048" }).waitFor();
    await page.getByRole("region", { name: "Dense" }).waitFor();
  });

  test("is stopped, and what was written is kept", async () => {
    await setLongestAnswer(4000);
    const second = await window.open();
    await second.getByRole("article").last().waitFor();
    await page.locator("#composer").fill("Tell all that the document says.");
    await page.keyboard.press("Enter");
    await second.getByRole("article", { name: "Tell all that the document says." }).waitFor();
    await page.keyboard.press("Escape");
    await chat().getByText("You stopped this answer. The text so far is kept.").waitFor();
    await second.getByText("You stopped this answer. The text so far is kept.").waitFor();
    await second.context().close();
    await setLongestAnswer(48);
  });

  test("is there after a reload", async () => {
    await page.reload();
    await chat().getByText("You stopped this answer. The text so far is kept.").waitFor();
    await page.getByText(/3 pages · read/).waitFor();
  });
});

describe("the window", () => {
  test("outlives its host, says so, and goes on", async () => {
    process.kill(await hostOf(window.server()), "SIGKILL");
    const banner = page.getByRole("alert").or(page.getByRole("region", { name: "Messages" }));
    await banner.getByText(/ended/).first().waitFor();
    // A host that lived long is started again without being asked.
    const again = page.getByRole("button", { name: "Start again" }).first();
    await again.click({ timeout: 3000 }).catch(() => {});
    await expect.poll(() => page.locator("#composer").isEnabled(), { timeout: 30_000 }).toBe(true);
    const another = "Whose boathouse is it?";
    await page.locator("#composer").fill(another);
    await page.keyboard.press("Enter");
    await page
      .getByRole("article", { name: another })
      .getByText(/pages 1–3 of 3/)
      .waitFor();
  });

  test("has its commands in a palette, and shortcuts", async () => {
    await page.keyboard.press("Control+k");
    await page.getByPlaceholder(/^A command/).focus();
    await page.keyboard.type("light and dark");
    await page.getByRole("option", { name: "Change between light and dark" }).click();
    await expect
      .poll(() => page.evaluate(() => document.documentElement.dataset.theme))
      .toBe("dark");
    await page.keyboard.press("Control+b");
    await page.getByRole("navigation", { name: "Library" }).waitFor({ state: "detached" });
    await page.keyboard.press("Control+b");
    await page.getByRole("navigation", { name: "Library" }).waitFor();
  });

  test.each(["dark", "light"])("axe-core finds nothing serious in the %s theme", async (theme) => {
    await page.evaluate((name) => {
      document.documentElement.dataset.theme = name;
    }, theme);
    const findings: string[] = [];
    const look = async (screen: string) => {
      for (const finding of await seriousFindings(page)) findings.push(`${screen}: ${finding}`);
    };
    for (const key of ["1", "2", "3", "4"]) {
      await page.keyboard.press(`Control+Shift+${key}`);
      await look(`lens ${key}`);
    }
    await page.keyboard.press("Control+,");
    for (const tab of await page.getByRole("dialog").getByRole("tab").all()) {
      await tab.click();
      await look(`settings, ${await tab.innerText()}`);
    }
    await page.keyboard.press("Escape");
    await page.keyboard.press("Control+k");
    await look("palette");
    await page.keyboard.press("Escape");
    expect(findings).toEqual([]);
  });

  test("shows one pane at a time when it is narrow", async () => {
    await page.setViewportSize({ width: 480, height: 800 });
    const tabs = page.getByRole("navigation", { name: "Panes" });
    await tabs.getByRole("button", { name: "Library" }).click();
    await page.getByRole("navigation", { name: "Library" }).waitFor();
    await tabs.getByRole("button", { name: "Chat" }).click();
    await chat().waitFor();
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(
      480,
    );
  });

  test("complained of nothing, and asked nothing of any other place", () => {
    // The host was killed on purpose.
    const others = window.complaints.filter((text) => !/ERR_CONNECTION|WebSocket|net::/.test(text));
    expect(others).toEqual([]);
  });
});
