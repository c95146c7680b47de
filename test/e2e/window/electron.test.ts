// The window in the desktop app; and whoever else might speak to its main process.
import { join } from "node:path";
import type { Frame, Page } from "playwright-core";
import { describe, expect, test, vi } from "vitest";
import { electronAppDist } from "../../../build/paths.ts";
import { describeFlows, describeWholeDocument } from "./flows.ts";
import { describeHostile } from "./hostile.ts";
import { callShell, useDesktopShell } from "./shells.ts";

vi.setConfig({ testTimeout: 180_000, hookTimeout: 300_000 });

const shell = useDesktopShell();
describeFlows(shell);
describeHostile(shell);

/** A window with the app's own preload script, and pages that are not the app's. */
async function forgedWindow(url: string): Promise<Page> {
  const { app } = shell.desktop();
  const opened = app.waitForEvent("window");
  await app.evaluate(
    ({ BrowserWindow }, { url, preload }) => {
      const window = new BrowserWindow({
        show: false,
        webPreferences: {
          preload,
          sandbox: true,
          // So that its frames have the door, too.
          nodeIntegrationInSubFrames: true,
        },
      });
      void window.loadURL(url);
    },
    { url, preload: join(electronAppDist, "preload.cjs") },
  );
  const page = await opened;
  await page.waitForLoadState();
  return page;
}

describe("the desktop's door", () => {
  const refused = { ok: false, error: { code: "not_allowed" } };
  const actions = [
    ["shell.state", {}],
    ["documents.choose", {}],
    ["file.save", { name: "a", content: "a" }],
    ["host.connect", { name: "forged" }],
  ] as const;

  test("is closed to pages that are not the app's, whatever they ask", async () => {
    const page = await forgedWindow("about:blank");
    for (const [action, input] of actions)
      expect(await callShell(page, action, input)).toMatchObject(refused);
    await page.close();
  });

  test("is closed to frames, and the app's own page can't be one", async () => {
    const page = await forgedWindow("about:blank");
    await page.evaluate(() => {
      const sources = [{ src: "scholia-app://window/" }, { srcdoc: "<title>forged</title>" }];
      const loads = sources.map((source) => {
        const frame: HTMLIFrameElement = Object.assign(document.createElement("iframe"), source);
        document.body.append(frame);
        return new Promise((resolve) => frame.addEventListener("load", resolve));
      });
      return Promise.all(loads);
    });
    const [own, forged] = page.mainFrame().childFrames() as [Frame, Frame];
    expect(own.url()).not.toBe("scholia-app://window/");
    for (const [action, input] of actions)
      expect(await callShell(forged, action, input)).toMatchObject(refused);
    await page.close();
  });

  test("leads nowhere else: the window takes no frames, no popups and no other address", async () => {
    const page = shell.page();
    await shell.desktop().app.evaluate(({ shell }) => {
      const links: string[] = [];
      shell.openExternal = async (url: string) => void links.push(url);
      Object.assign(globalThis, { links });
    });
    const outcome = await page.evaluate(async () => {
      const frames = ["https://example.org/", "data:text/html,x", "scholia-app://window/"].map(
        (src) => Object.assign(document.createElement("iframe"), { src }),
      );
      document.body.append(...frames);
      const popups = ["javascript:1", "file:///etc/passwd", "about:blank", "https://example.org/a"];
      const windows = popups.map((url) => open(url) === null);
      for (const address of ["file:///etc/passwd", "data:text/html,x", "https://example.org/b"])
        location.href = address;
      await new Promise((resolve) => setTimeout(resolve, 300));
      const reached = frames.map(({ contentDocument }) => contentDocument?.body?.textContent ?? "");
      for (const frame of frames) frame.remove();
      return { windows, reached };
    });
    expect(outcome).toEqual({ windows: [true, true, true, true], reached: ["", "", ""] });
    expect(page.url()).toBe("scholia-app://window/");
    expect(shell.desktop().app.windows()).toHaveLength(1);
    const links = await shell
      .desktop()
      .app.evaluate(() => (globalThis as unknown as { links: string[] }).links);
    expect(links).toEqual(["https://example.org/a"]);
  });

  test("has the settings that the app ships with; only the system's sandbox is off here", async () => {
    const [preferences, argv] = await shell.desktop().app.evaluate(({ BrowserWindow }) => {
      const [window] = BrowserWindow.getAllWindows();
      const contents = window?.webContents as unknown as {
        getLastWebPreferences(): Record<string, unknown>;
      };
      return [contents.getLastWebPreferences(), process.argv];
    });
    expect(preferences).toMatchObject({
      sandbox: true,
      contextIsolation: true,
      nodeIntegration: false,
      nodeIntegrationInSubFrames: false,
      webSecurity: true,
      webviewTag: false,
      allowRunningInsecureContent: false,
      experimentalFeatures: false,
    });
    const weakening = argv.filter((word) => /--(disable-web|no-sandbox|allow|unsafely)/.test(word));
    expect(weakening).toEqual(["--no-sandbox"]);
  });
});

describeWholeDocument(shell);
