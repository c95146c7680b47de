import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { DesktopBridge, PortMessage } from "../../contract/shell.ts";
import { type Desktop, setUpDesktop, startDesktop } from "./desktop.ts";
import { pdfOf, textWith } from "./madeUpDocuments.ts";
import { until, usePlace } from "./scholia.ts";

vi.setConfig({ testTimeout: 200_000 });

declare const window: {
  scholia: DesktopBridge;
  open(url: string): unknown;
  addEventListener(kind: "message", listener: (event: PortEvent) => void): void;
};
interface PortEvent {
  data: PortMessage;
  ports: {
    postMessage(message: unknown): void;
    addEventListener(kind: "message", listener: (event: { data: unknown }) => void): void;
    start(): void;
  }[];
}

const place = usePlace();
let desktop: Desktop;
let pdf: string;
/** What the page was not allowed to do, so far. */
const violations: string[] = [];

beforeAll(async () => {
  await setUpDesktop();
  const texts = [textWith(["The door code of Ida's boathouse is 48213."], 200)];
  pdf = await place.write("boathouse.pdf", pdfOf(texts));
  desktop = await startDesktop({ data: place.data, profile: join(place.folder, "profile") });
  desktop.window.on("console", (message) => {
    if (message.text().includes("Content Security Policy")) violations.push(message.text());
  });
  await desktop.window.reload();
});

afterAll(() => desktop?.close());

/** What the page gets from its door. */
const call = (action: string, input: unknown = {}) =>
  desktop.window.evaluate(
    ([action, input]) => window.scholia.call(action as string, input),
    [action, input],
  );

describe("the desktop app", () => {
  test("shows the window from its own origin, with two functions and nothing of Node", async () => {
    expect(desktop.window.url()).toBe("scholia-app://window/");
    const seen = await desktop.window.evaluate(() => ({
      bridge: Object.keys(window.scholia).sort(),
      node: ["require", "process", "module", "Buffer"].filter((name) => name in globalThis),
    }));
    expect(seen).toEqual({ bridge: ["call", "subscribe"], node: [] });
    expect(await call("shell.state")).toMatchObject({
      ok: true,
      value: { kind: "desktop", host: { state: "running" } },
    });
  });

  test("gives the window a port to the host that takes no paths", async () => {
    const replies = await desktop.window.evaluate(
      (path) =>
        new Promise<unknown[]>((resolve) => {
          const results: unknown[] = [];
          window.addEventListener("message", ({ data, ports: [port] }) => {
            if (data?.kind !== "scholia-port" || data.name !== "test" || port === undefined) return;
            port.addEventListener("message", (event) => {
              const message = event.data as { kind: string; result: unknown };
              if (message.kind === "result") results.push(message.result);
              if (results.length === 2) resolve(results);
            });
            port.start();
            const ask = (id: number, route: string, input: unknown) =>
              port.postMessage({ kind: "request", id, route, input });
            ask(1, "documents.add", { path });
            ask(2, "host.hello", {});
          });
          void window.scholia.call("host.connect", { name: "test" });
        }),
      pdf,
    );
    expect(replies).toEqual(
      expect.arrayContaining([
        { ok: false, error: expect.objectContaining({ code: "not_allowed" }) },
        { ok: true, value: expect.objectContaining({ pid: expect.any(Number) }) },
      ]),
    );
  });

  test("takes dropped files by what they are, not by what the page says", async () => {
    // No File: a page can't make up a path.
    expect(await call("documents.drop", { paths: [pdf] })).toMatchObject({
      ok: false,
      error: { code: "invalid_argument" },
    });
    expect(await call("documents.drop", [pdf])).toMatchObject({ ok: false });
    // As the dialog would answer.
    await desktop.app.evaluate(({ dialog }, path) => {
      dialog.showOpenDialog = async () => ({ canceled: false, filePaths: [path] });
    }, pdf);
    expect(await call("documents.choose")).toMatchObject({
      ok: true,
      value: { added: [{ name: "boathouse.pdf", file: "present" }], refused: [] },
    });
    await desktop.window.getByText("boathouse.pdf").first().waitFor();
  });

  test("opens one instance; a second hands over its file and ends", async () => {
    const other = await place.write("second.txt", "The second file.");
    const second = desktop.again([other]);
    expect(await second).toBe(0);
    await desktop.window.getByText("second.txt").first().waitFor();
    expect(desktop.app.windows()).toHaveLength(1);
  });

  test("saves a file where the dialog says", async () => {
    const target = join(place.folder, "chat.md");
    await desktop.app.evaluate(({ dialog }, filePath) => {
      dialog.showSaveDialog = async () => ({ canceled: false, filePath });
    }, target);
    expect(await call("file.save", { name: "chat.md", content: "# A" })).toEqual({
      ok: true,
      value: target,
    });
    expect(await readFile(target, "utf8")).toBe("# A");
  });

  test("refuses unknown actions, wrong inputs and links that are none", async () => {
    for (const [action, input] of [
      ["nothing", {}],
      ["__proto__", {}],
      ["shell.state", { extra: 1 }],
      ["theme.set", { theme: "purple" }],
      ["link.open", { url: "file:///etc/passwd" }],
      ["link.open", { url: "javascript:alert(1)" }],
    ] as const) {
      expect(await call(action, input)).toMatchObject({ ok: false });
    }
  });

  test("does nothing that its own policy forbids", async () => {
    await desktop.window.getByText("boathouse.pdf").first().click();
    await desktop.window.waitForTimeout(1000);
    expect(violations).toEqual([]);
  });

  test("can't be led elsewhere, opens no windows, asks for nothing, reaches no network", async () => {
    const { app, window: page } = desktop;
    const opened = await page.evaluate(() => window.open("scholia-app://window/") === null);
    expect(opened).toBe(true);
    await page.evaluate(() => {
      (globalThis as unknown as { location: { href: string } }).location.href =
        "https://example.org/";
    });
    await page.waitForTimeout(300);
    expect(page.url()).toBe("scholia-app://window/");
    expect(app.windows()).toHaveLength(1);
    const reached = await page.evaluate(async () => {
      const tries = ["http://127.0.0.1:9/", "https://example.org/", "file:///etc/hostname"];
      const results = await Promise.allSettled(tries.map((url) => fetch(url)));
      return results.map(({ status }) => status);
    });
    expect(reached).toEqual(["rejected", "rejected", "rejected"]);
    const permission = await page.evaluate(() =>
      (
        globalThis as unknown as {
          Notification: { requestPermission(): Promise<string> };
        }
      ).Notification.requestPermission(),
    );
    expect(permission).toBe("denied");
    const outside = await page.evaluate(async () => {
      const paths = ["/../../package.json", "/%2e%2e/%2e%2e/package.json", "/nothing"];
      const replies = await Promise.all(paths.map((path) => fetch(path)));
      return replies.map(({ status }) => status);
    });
    expect(outside).toEqual([404, 404, 404]);
  });

  test("keeps pages in their sandbox, and runs no script that is not its own", async () => {
    const preferences = await desktop.app.evaluate(({ BrowserWindow }) => {
      const [window] = BrowserWindow.getAllWindows();
      const contents = window?.webContents as unknown as {
        getLastWebPreferences(): Record<string, unknown>;
      };
      return contents.getLastWebPreferences();
    });
    expect(preferences).toMatchObject({
      sandbox: true,
      contextIsolation: true,
      nodeIntegration: false,
      webSecurity: true,
      webviewTag: false,
    });
    const policy = await desktop.window.evaluate(async () =>
      (await fetch("/index.html")).headers.get("content-security-policy"),
    );
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("script-src 'self';");
  });

  test("survives the host's death, says why, and starts the next one", async () => {
    const state = async () => {
      const reply = (await call("shell.state")) as {
        value: { host: { state: string; pid?: number } };
      };
      return reply.value.host;
    };
    const { pid } = await state();
    process.kill(pid!, "SIGKILL");
    // The window may have connected anew already, which starts the next host.
    const next = await until(async () => {
      const now = await state();
      return now.state === "exited" || now.pid !== pid ? now : undefined;
    }, 30);
    expect(["exited", "running"]).toContain(next.state);
    expect(await call("host.restart")).toEqual({ ok: true, value: null });
    expect((await state()).state).toBe("running");
    expect(await desktop.window.evaluate(() => "scholia" in window)).toBe(true);
  });

  test("remembers where its window was", async () => {
    await desktop.app.evaluate(({ BrowserWindow }) => {
      BrowserWindow.getAllWindows()[0]?.setBounds({ x: 40, y: 50, width: 900, height: 700 });
    });
    await desktop.close();
    desktop = await startDesktop({ data: place.data, profile: join(place.folder, "profile") });
    const bounds = await desktop.app.evaluate(({ BrowserWindow }) =>
      BrowserWindow.getAllWindows()[0]?.getBounds(),
    );
    expect(bounds).toMatchObject({ width: 900, height: 700 });
    // The library is as it was.
    await desktop.window.getByText("boathouse.pdf").first().waitFor();
  });
});
