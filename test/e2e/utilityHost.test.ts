// The path that the shipped app takes: the host in Electron's utility process, a MessagePort for each
// window. The Electron of the tests is too old for the host itself, so a small one stands in its place.
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { bundleForNode } from "../../build/nodeBundle.ts";
import type { DesktopBridge, PortMessage } from "../../contract/shell.ts";
import { type Desktop, setUpDesktop, startDesktop } from "./desktop.ts";
import { until, usePlace } from "./scholia.ts";

vi.setConfig({ testTimeout: 120_000 });

interface WindowPort {
  postMessage(message: unknown): void;
  addEventListener(kind: "message", listener: (event: { data: unknown }) => void): void;
  addEventListener(kind: "close", listener: () => void): void;
  start(): void;
}
interface Heard {
  messages: { kind: string; id?: number; result?: unknown; frames?: { kind: string }[] }[];
  closed: boolean;
  port: WindowPort;
}
declare const window: {
  scholia: DesktopBridge;
  heard: Heard;
  addEventListener(
    kind: "message",
    listener: (event: { data: PortMessage; ports: WindowPort[] }) => void,
  ): void;
};

const place = usePlace();
let desktop: Desktop;

beforeAll(async () => {
  await setUpDesktop();
  await bundleForNode({ entries: { host: "test/e2e/utilityChild.ts" }, folder: place.folder });
  desktop = await startDesktop({
    data: place.data,
    profile: join(place.folder, "profile"),
    hostEntry: join(place.folder, "host.cjs"),
  });
});

afterAll(() => desktop?.close());

/** A port of its own for the page, whose messages it gathers in `window.heard`. */
const connect = (name: string) =>
  desktop.window.evaluate(
    (name) =>
      new Promise<void>((resolve) => {
        window.addEventListener("message", ({ data, ports: [port] }) => {
          if (data?.kind !== "scholia-port" || data.name !== name || port === undefined) return;
          const heard: Heard = { messages: [], closed: false, port };
          window.heard = heard;
          port.addEventListener("message", (event) => {
            heard.messages.push(event.data as Heard["messages"][number]);
          });
          port.addEventListener("close", () => {
            heard.closed = true;
          });
          port.start();
          resolve();
        });
        void window.scholia.call("host.connect", { name });
      }),
    name,
  );

const post = (message: unknown) =>
  desktop.window.evaluate((message) => window.heard.port.postMessage(message), message);
const heard = () => desktop.window.evaluate(() => window.heard.messages);

describe("the utility process", () => {
  test("answers a window over its own port, and takes no paths from it", async () => {
    await connect("one");
    await post({ kind: "request", id: 1, route: "host.hello", input: {} });
    await post({ kind: "request", id: 2, route: "documents.add", input: { path: "/etc/hosts" } });
    const replies = await until(async () => {
      const messages = await heard();
      return messages.length >= 2 ? messages : undefined;
    }, 20);
    expect(replies).toMatchObject([
      { kind: "result", id: 1, result: { ok: true, value: { version: "9.9.9" } } },
      { kind: "result", id: 2, result: { ok: false, error: { code: "not_allowed" } } },
    ]);
  });

  test("streams a run with its bytes", async () => {
    await connect("two");
    const input = { documentId: "a".repeat(64), question: "one two three", trace: true };
    await post({ kind: "open", runId: "run-1", route: "answer.ask", input, credits: 8 });
    const frames = await until(async () => {
      const kinds = (await heard()).flatMap(({ frames }) => frames ?? []).map(({ kind }) => kind);
      return kinds.includes("done") ? kinds : undefined;
    }, 20);
    expect(frames.filter((kind) => kind === "trace")).toHaveLength(3);
    const isBytes = await desktop.window.evaluate(() =>
      window.heard.messages
        .flatMap(({ frames }) => frames ?? [])
        .some((frame) => (frame as { trace?: unknown }).trace instanceof Uint8Array),
    );
    expect(isBytes).toBe(true);
  });

  test("that dies closes the window's port, leaves its last words, and is started anew", async () => {
    await post({
      kind: "open",
      runId: "run-2",
      route: "models.get",
      input: { id: "x" },
      credits: 0,
    });
    await until(
      async () => ((await desktop.window.evaluate(() => window.heard.closed)) ? true : undefined),
      30,
    );
    const state = await until(async () => {
      const reply = await desktop.window.evaluate(() => window.scholia.call("shell.state", {}));
      const { host } = (reply as { value: { host: { state: string; error?: unknown } } }).value;
      return host.state === "running" ? undefined : host;
    }, 30);
    expect(JSON.stringify(state)).toContain("GGML_ASSERT");
    await connect("three");
    await post({ kind: "request", id: 1, route: "host.hello", input: {} });
    await until(async () => ((await heard()).length > 0 ? true : undefined), 20);
  });

  test("that hangs is ended when the app is closed", async () => {
    const reply = await desktop.window.evaluate(() => window.scholia.call("shell.state", {}));
    const { pid } = (reply as { value: { host: { pid: number } } }).value.host;
    process.kill(pid, "SIGSTOP");
    await desktop.close();
    expect(() => process.kill(pid, 0)).toThrow("ESRCH");
  });
});
