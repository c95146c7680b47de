// The window in Chromium, served by `scholia serve`; and pages of other sites, which reach nothing of it.
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { describeFlows } from "./flows.ts";
import { describeHostile } from "./hostile.ts";
import { launchChromium } from "./launchChromium.ts";
import { useBrowserShell } from "./shells.ts";

vi.setConfig({ testTimeout: 180_000, hookTimeout: 300_000 });

const shell = useBrowserShell();
describeFlows(shell);
describeHostile(shell);

describe("pages of other sites", () => {
  let other: Server;
  let page: Page;

  beforeAll(async () => {
    other = createServer((_request, response) => {
      response.setHeader("Content-Type", "text/html");
      response.end("<title>Another page</title>");
    });
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    // Of the same host, so that the browser sends the cookie: only its Origin tells it apart.
    page = await shell.page().context().newPage();
    await page.goto(`http://127.0.0.1:${(other.address() as AddressInfo).port}/`);
  });
  afterAll(async () => {
    await page.close();
    other.close();
  });

  const own = () => new URL(shell.url()).origin;

  test("read nothing, send nothing that is heard, and open no channel", async () => {
    const host = await shell.host();
    const results = await page.evaluate(async (own) => {
      const outcome = (promise: Promise<unknown>) =>
        promise.then(
          () => "done",
          () => "refused",
        );
      const loaded = (element: HTMLScriptElement | HTMLImageElement, path: string) =>
        new Promise((resolve, reject) => {
          element.onload = resolve;
          element.onerror = reject;
          element.src = own + path;
          document.body.append(element);
        });
      const opened = outcome(
        new Promise((resolve, reject) => {
          const socket = new WebSocket(`${own.replace("http", "ws")}/host`);
          socket.onopen = resolve;
          socket.onclose = reject;
        }),
      );
      // Nobody may read the reply of this one, but it is sent.
      await fetch(`${own}/shell/restart`, { method: "POST", mode: "no-cors" }).catch(() => {});
      return {
        state: await outcome(fetch(`${own}/shell/state`, { credentials: "include" })),
        upload: await outcome(
          fetch(`${own}/shell/documents?name=a.txt`, { method: "POST", body: "a" }),
        ),
        script: await outcome(loaded(document.createElement("script"), "/shell/state")),
        picture: await outcome(loaded(new Image(), "/icon.svg")),
        socket: await opened,
      };
    }, own());
    expect(new Set(Object.values(results))).toEqual(new Set(["refused"]));
    expect(await shell.host()).toBe(host);
    expect(await shell.page().getByText("a.txt", { exact: true }).count()).toBe(0);
  });

  test("can't show the window in a frame", async () => {
    await page.evaluate((own) => {
      document.body.append(Object.assign(document.createElement("iframe"), { src: `${own}/` }));
    }, own());
    const frame = () => page.frames().find((candidate) => candidate !== page.mainFrame());
    await expect.poll(() => frame()?.url()).toMatch(/^chrome-error:/);
  });

  test("are refused when their name is made to lead here (DNS rebinding)", async () => {
    const rebound = await launchChromium(shell.proxy(), [
      "--host-resolver-rules=MAP rebound.example 127.0.0.1",
      "--proxy-bypass-list=rebound.example",
    ]);
    try {
      const { port, search } = new URL(shell.url());
      const tab = await rebound.newPage();
      for (const path of ["/", `/${search}`]) {
        const reply = await tab.goto(`http://rebound.example:${port}${path}`);
        expect(reply?.status()).toBe(421);
      }
      expect(await tab.context().cookies()).toEqual([]);
      const socket = await tab.evaluate(
        (port) =>
          new Promise((resolve) => {
            const opened = new WebSocket(`ws://rebound.example:${port}/host`);
            opened.onopen = () => resolve("opened");
            opened.onclose = () => resolve("refused");
          }),
        port,
      );
      expect(socket).toBe("refused");
    } finally {
      await rebound.close();
    }
  });

  test("without the token get nothing but the advice to use it", async () => {
    const stranger = await shell.browser().newContext();
    const tab = await stranger.newPage();
    const reply = await tab.goto(own());
    expect(reply?.status()).toBe(401);
    expect(await tab.locator("body").innerText()).toMatch(/^Open the address/);
    await stranger.close();
  });

  test("of other machines are not reached at all: the proxy sees the try and refuses", async () => {
    await page.goto("http://example.org/").catch(() => {});
    expect(shell.proxy().taken()).toContain("GET http://example.org/");
    shell.complaints.length = 0;
  });
});
