// Every screen of the window for eyes, screen readers and the keyboard alone, in Chromium on the real engine.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { describe, expect, test, vi } from "vitest";
import { pdfOf, textWith } from "../madeUpDocuments.ts";
import { walkByTab } from "./keyboard.ts";
import { writeLongChat } from "./longChat.ts";
import { coloursOf, drawnPicture, seriousFindings } from "./looks.ts";
import { useBrowserShell } from "./shells.ts";

vi.setConfig({ testTimeout: 180_000, hookTimeout: 300_000 });

const shell = useBrowserShell();
const page = () => shell.page();
const chat = () => page().getByRole("region", { name: "Chat", exact: true });
const library = () => page().getByRole("navigation", { name: "Library" });
const dialog = () => page().getByRole("dialog");
const certificate = () => chat().getByText(/tokens · pages/);
const press = async (...keys: string[]) => {
  for (const key of keys) await page().keyboard.press(key);
};

/** axe-core in both themes; the dark one differs in its colours only. */
async function expectAccessible(on: Page = page()) {
  const inTheme = (name: string) =>
    on.evaluate((name) => {
      document.documentElement.dataset.theme = name;
    }, name);
  await inTheme("dark");
  expect(await seriousFindings(on, ["color-contrast"]), "dark").toEqual([]);
  await inTheme("light");
  expect(await seriousFindings(on), "light").toEqual([]);
}

async function addPdf(name: string, texts: string[]) {
  const path = join(shell.place.folder, name);
  await writeFile(path, pdfOf(texts));
  await shell.add(path);
}

describe("a document", () => {
  test("is asked for by an empty library", async () => {
    await page().getByRole("heading", { name: "Ask a whole document" }).waitFor();
    await expectAccessible();
  });

  test("is counted before it is read", async () => {
    const code = "The door code of Ida's boathouse is 48213.";
    await addPdf(
      "boathouse.pdf",
      [1, 2, 3].map((seed) => textWith(seed === 2 ? [code] : [], 150, seed)),
    );
    await page().getByText("Ready to read").waitFor();
    await page().getByText("All 3 pages have text").waitFor();
    await page()
      .getByRole("region", { name: "Page 1", exact: true })
      .locator(drawnPicture)
      .waitFor();
    await expectAccessible();
  });

  test("is searched, and what is found is marked on its page", async () => {
    await press("Control+f");
    await page().keyboard.type("door code");
    await page().getByText("1 of 1", { exact: true }).waitFor();
    await page()
      .getByRole("region", { name: "Page 2", exact: true })
      .locator("[class*=foundNow]")
      .first()
      .waitFor();
    await expectAccessible();
    await press("Escape");
    await page().getByLabel("Find in the document").locator("input").waitFor({ state: "detached" });
  });

  test("that is not one is refused in a message", async () => {
    const path = join(shell.place.folder, "empty.pdf");
    await writeFile(path, "");
    await shell.add(path);
    await page()
      .getByText(/empty\.pdf is empty/)
      .waitFor();
    await expectAccessible();
    await page().getByRole("region", { name: "Messages" }).getByRole("button").last().click();
  });

  test("is shown while it is being read", async () => {
    await addPdf(
      "long.pdf",
      Array.from({ length: 12 }, (_, seed) => textWith([], 250, seed + 10)),
    );
    await page()
      .getByRole("button", { name: /^Read [\d,]+ tokens$/ })
      .click();
    await library().getByRole("button", { name: "Pause reading" }).click();
    await library()
      .getByText(/^Paused/)
      .waitFor();
    await expectAccessible();
    await library()
      .getByRole("button", { name: /^Stop reading/ })
      .click();
    await library().getByText("boathouse.pdf").first().click();
  });
});

describe("an answer", () => {
  test("is shown with its passages and numbers", async () => {
    await page()
      .getByRole("button", { name: /^Read [\d,]+ tokens$/ })
      .click();
    await page()
      .getByText(/3 pages · read/)
      .waitFor();
    await page().locator("#composer").fill("What is the door code of Ida's boathouse?");
    await press("Enter");
    await certificate().waitFor();
    await certificate().click();
    await chat()
      .getByText(/^Rests on/)
      .click();
    await expectAccessible();
    await certificate().click();
    const cite = chat()
      .getByRole("button", { name: /^Citation 1, page/ })
      .first();
    await cite.focus();
    await page().locator("[data-radix-popper-content-wrapper] blockquote").waitFor();
    await expectAccessible();
    await press("Escape");
  });

  test("is drawn in the maps", async () => {
    expect(await coloursOf(page(), "[role=slider] canvas")).toBeGreaterThan(3);
    await press("Control+Shift+1");
    await page().getByText("68 heads").waitFor();
    const heads = "[role=application] canvas";
    const shown = page().getByLabel("What the colours show");
    await expect.poll(() => coloursOf(page(), heads)).toBeGreaterThan(4);
    await expectAccessible();
    await shown.selectOption("massKept");
    const lens = page().getByRole("region", { name: "Lens" });
    await lens.getByText("100 %").first().waitFor();
    await shown.selectOption("blocksRead");
    await expect.poll(() => coloursOf(page(), heads)).toBeGreaterThan(2);
    await shown.selectOption("budgetShare");
    await page().getByLabel("Compared with").selectOption("uniform");
    await expect.poll(() => coloursOf(page(), heads)).toBeGreaterThan(4);
    await expectAccessible();
    await page().getByLabel("Compared with").selectOption("none");
    await press("Control+Shift+2");
    await page()
      .getByRole("img", { name: /^Memory: .*Weights/i })
      .waitFor();
    await expectAccessible();
    await page().getByRole("button", { name: "What if …" }).click();
    await page().getByRole("slider", { name: "Context" }).press("Home");
    await page().getByText("1,024 tokens").waitFor();
    await page()
      .getByText(/that there are$/)
      .waitFor();
    await expectAccessible();
    await page().getByRole("button", { name: "As a table" }).click();
    await expectAccessible();
    await press("Control+Shift+3");
    await page()
      .getByRole("img", { name: /^Writing: tokens per second/ })
      .waitFor();
    await page().getByRole("button", { name: "Measure", exact: true }).click();
    await page()
      .getByRole("row", { name: /^Whole step/ })
      .waitFor();
    await expectAccessible();
    await press("Control+Shift+4");
    await expectAccessible();
  });

  test("is given again densely, and both are compared", async () => {
    await chat().getByRole("button", { name: "Compare with dense" }).click();
    await chat()
      .getByText(/pages 1–3 of 3 · Dense$/)
      .waitFor();
    await chat().getByText("2 of 2").waitFor();
    await chat().getByRole("button", { name: "Compare both" }).click();
    await page()
      .getByRole("region", { name: /^AB-Sparse [\d,]+$/ })
      .waitFor();
    await page().getByRole("region", { name: "Dense" }).waitFor();
    await expectAccessible();
    await page().getByRole("button", { name: "Fill the window" }).click();
    await expectAccessible();
    await page().getByRole("button", { name: "Back to the drawer" }).click();
  });
});

describe("dialogs and menus", () => {
  test("of the settings", async () => {
    await press("Control+,");
    const tabs = dialog().getByRole("tab");
    await expect.poll(() => tabs.count()).toBeGreaterThan(5);
    for (const tab of await tabs.all()) {
      await tab.click();
      await expectAccessible();
    }
    await press("Escape");
  });

  test.each([
    ["Control+k", "Search"],
    ["Control+/", "Keyboard shortcuts"],
  ])("on %s", async (keys) => {
    await press(keys);
    await dialog().waitFor();
    await expectAccessible();
    await press("Escape");
    await dialog().waitFor({ state: "detached" });
  });

  test.each(["Rename", "Remove from the library"])("of a document: %s", async (item) => {
    await library()
      .getByRole("button", { name: /^More about “boathouse/ })
      .click();
    await expectAccessible();
    await page().getByRole("menuitem", { name: item }).click();
    await dialog().waitFor();
    await expectAccessible();
    await press("Escape");
  });

  test("of the chat: mode and context", async () => {
    await chat()
      .getByRole("button", { name: /^AB-Sparse/ })
      .click();
    await expectAccessible();
    await press("Escape");
    await chat()
      .getByRole("button", { name: /^The model's context/ })
      .click();
    await expectAccessible();
    await press("Escape");
  });
});

describe("the keyboard alone", () => {
  test("reaches every control, and its focus is seen", async () => {
    await press("Control+Shift+1");
    const walk = await walkByTab(page());
    expect(walk.missed.join("\n"), "not reached").toBe("");
    expect(walk.unseen.join("\n"), "focus not seen").toBe("");
    expect(walk.reached.length).toBeGreaterThan(30);
  });

  test("has the shortcuts that people know", async () => {
    const asked = page().waitForEvent("filechooser");
    await press("Control+o");
    await (await asked).setFiles([]);
    await press("Control+b");
    await library().waitFor({ state: "detached" });
    await press("Control+b");
    await library().waitFor();
    await press("Control+Shift+V");
    await page().getByRole("region", { name: "Lens" }).waitFor({ state: "detached" });
    await press("Control+Shift+V");
    await page().getByRole("region", { name: "Lens" }).waitFor();
    await press("Control+,");
    await dialog().getByRole("tab", { name: "Answers" }).waitFor();
    await press("Escape", "Control+/");
    await dialog().getByRole("heading", { name: "Keyboard shortcuts" }).waitFor();
    await press("Escape", "Control+n");
    await chat().getByRole("button", { name: "New chat" }).first().waitFor();
    expect(await chat().getByRole("article").count()).toBe(0);
    await press("Shift+Escape");
    expect(await focused()).toBe("composer");
  });

  test("finds commands, documents and chats in the palette", async () => {
    await press("Control+k");
    await page()
      .getByPlaceholder(/^A command/)
      .waitFor();
    await page().keyboard.type("light and dark");
    await page().getByRole("option", { name: "Change between light and dark" }).waitFor();
    await press("Enter");
    await expect
      .poll(() => page().evaluate(() => document.documentElement.dataset.theme))
      .toBe("dark");
    await press("Control+k");
    await page().keyboard.type("door code");
    await page()
      .getByRole("option", { name: /door code/ })
      .first()
      .waitFor();
    const chosen = dialog().getByRole("option", { selected: true });
    const chosenAfterArrow = async () => {
      await press("ArrowDown");
      return chosen.innerText();
    };
    await expect.poll(chosenAfterArrow, { interval: 50 }).toMatch(/door code/);
    await press("Enter");
    await certificate().first().waitFor();
  });

  test("moves in the maps by the arrows", async () => {
    await page().locator("[role=application]").focus();
    await press("ArrowRight", "Enter");
    const head = page().getByRole("complementary", { name: /^Layer \d+ · KV head \d+$/ });
    const pinned = await head.getAttribute("aria-label");
    await press("ArrowRight");
    await expect.poll(() => head.getAttribute("aria-label")).not.toBe(pinned);
    await press("t");
    expect(
      await page().getByRole("region", { name: "As a table" }).locator("tbody tr").count(),
    ).toBe(90);
    await expectAccessible();
    await page().getByRole("button", { name: "As a table" }).click();
    const strip = page().getByRole("slider", { name: /^Read map/ });
    await strip.focus();
    const place = () => strip.getAttribute("aria-valuenow");
    const placeAfter = (key: string) => async () => {
      await press(key);
      return place();
    };
    await expect.poll(placeAfter("ArrowUp")).toBe("1");
    await press("ArrowDown");
    await expect.poll(place).toBe("2");
  });

  test("changes tabs and the width of panes by the arrows", async () => {
    await page().getByRole("tab", { name: "Heads" }).focus();
    await press("ArrowRight");
    await page().getByRole("tab", { name: "Memory", selected: true }).waitFor();
    const splitter = page().getByRole("separator").first();
    const width = () => library().evaluate((pane) => pane.getBoundingClientRect().width);
    const before = await width();
    await splitter.focus();
    await press("ArrowRight");
    await expect.poll(width).toBeGreaterThan(before);
    await press("ArrowLeft");
  });

  test("opens menus, renames, edits questions and goes to citations", async () => {
    await library()
      .getByRole("button", { name: /^More about “boathouse/ })
      .focus();
    await press("Enter");
    await page().getByRole("menuitem", { name: "Rename" }).waitFor();
    await press("Enter");
    await dialog().waitFor();
    await press("Control+a");
    await page().keyboard.type("The boathouse");
    await press("Enter");
    await page().getByRole("heading", { name: "The boathouse" }).waitFor();
    await chat().getByRole("button", { name: "Edit the question" }).first().focus();
    await press("Enter");
    expect(await page().evaluate(() => document.activeElement?.tagName)).toBe("TEXTAREA");
    await press("Escape");
    await chat().getByRole("button", { name: "Edit the question" }).first().waitFor();
    await chat()
      .getByRole("button", { name: /^Citation 1, page/ })
      .first()
      .focus();
    await press("Enter");
    await page().locator("[class*=cited]").first().waitFor();
  });

  test("changes its own shortcuts", async () => {
    await press("Control+/");
    await dialog().getByRole("button", { name: "Change shortcuts" }).focus();
    await press("Enter");
    await dialog()
      .getByRole("button", { name: /Change the shortcut of “Show or hide the library”/ })
      .first()
      .focus();
    await press("Enter", "Control+Shift+L");
    await press("Escape", "Control+Shift+L");
    await library().waitFor({ state: "detached" });
    await press("Control+Shift+L");
    await library().waitFor();
  });

  const focused = () => page().evaluate(() => document.activeElement?.id);
});

describe("a chat of many turns", () => {
  test("shows its end first; earlier turns come in above, and the view stays", async () => {
    await writeLongChat(shell.place.data, join(shell.place.folder, "boathouse.pdf"), 50);
    await page().reload();
    const turns = chat().getByRole("article");
    await expect.poll(() => turns.count()).toBe(20);
    const list = page().getByRole("region", { name: "Questions and answers" });
    const name = (await turns.first().getAttribute("aria-label")) ?? "";
    const top = chat().getByRole("article", { name, exact: true });
    await list.evaluate((node) => node.scrollTo({ top: 0 }));
    await expect.poll(() => turns.count()).toBe(40);
    const fromTop = () =>
      top.evaluate((turn) => {
        const { top } = turn.getBoundingClientRect();
        return Math.abs(top - turn.parentElement!.getBoundingClientRect().top);
      });
    await expect.poll(fromTop).toBeLessThan(60);
    await list.evaluate((node) => node.scrollTo({ top: 0 }));
    await expect.poll(() => turns.count()).toBe(50);
  });
});

describe("the window", () => {
  test("is as it was after a reload", async () => {
    await page().getByRole("heading", { name: "The boathouse" }).waitFor();
    await certificate().last().waitFor();
  });

  test("shows one pane at a time when it is narrow", async () => {
    await page().setViewportSize({ width: 480, height: 800 });
    const tabs = page().getByRole("navigation", { name: "Panes" });
    for (const name of ["Library", "Document", "Chat", "Lens"]) {
      await tabs.getByRole("button", { name }).click();
      await expectAccessible();
      const width = await page().evaluate(() => document.documentElement.scrollWidth);
      expect(width).toBeLessThanOrEqual(480);
    }
  });

  test("complained of nothing, and asked nothing of any other place", () => {
    expect(shell.complaints).toEqual([]);
  });
});
