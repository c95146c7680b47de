import { fork } from "node:child_process";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { MessageChannel } from "node:worker_threads";
import { afterEach, describe, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { connect, type HostClient } from "../../../contract/client.ts";
import { decodeMessage, encodeMessage } from "../../../contract/codec.ts";
import { isTerminal, type RunFrame } from "../../../contract/stream.ts";
import type { FromHost, Port } from "../../../contract/wire.ts";
import { childProcessPort, createHostServer, messagePort } from "../../../host/channel.ts";
import { splitPort } from "../../../host/lanes.ts";
import { relay } from "../../../web/server.ts";
import { requests, runs } from "./channelHandlers.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

function forkedPort(): Port {
  const child = fork(fileURLToPath(new URL("./channelChild.ts", import.meta.url)), {
    serialization: "advanced",
    stdio: ["ignore", "ignore", "ignore", "ipc"],
  });
  closers.push(() => child.kill("SIGKILL"));
  return childProcessPort(child);
}

function threadPort(): Port {
  const { port1, port2 } = new MessageChannel();
  const server = createHostServer(requests, runs);
  server.serve(messagePort(port1));
  closers.push(() => {
    port1.close();
    return server.close();
  });
  return messagePort(port2);
}

/** A window's lane through a shell's one port. */
function lanePort(): Port {
  const { port1, port2 } = new MessageChannel();
  const server = createHostServer(requests, runs);
  const hostEnd = splitPort(messagePort(port1));
  server.serve(hostEnd.main);
  hostEnd.onLane((lane) => server.serve(lane));
  const shellEnd = splitPort(messagePort(port2));
  // Another window is there all the time, and hears nothing that is not its own.
  shellEnd.openLane().onMessage((message) => {
    expect(message).toMatchObject({ kind: "event" });
  });
  closers.push(() => {
    port1.close();
    return server.close();
  });
  return shellEnd.openLane();
}

/** A browser's end of the WebSocket, relayed to a lane of the host. */
async function webSocketPort(): Promise<Port> {
  const lane = lanePort();
  const sockets = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  sockets.once("connection", (socket) => relay(socket, lane));
  await once(sockets, "listening");
  const { port } = sockets.address() as AddressInfo;
  const socket = new WebSocket(`ws://127.0.0.1:${port}`);
  await once(socket, "open");
  closers.push(() => {
    socket.terminate();
    sockets.close();
  });
  return {
    post: (message) => socket.send(encodeMessage(message)),
    onMessage: (listener) =>
      void socket.on("message", (data: Buffer, isBinary) =>
        listener(decodeMessage(isBinary ? data : data.toString())),
      ),
    onClose: (listener) => void socket.once("close", () => listener()),
    close: () => socket.close(),
  };
}

async function framesOf(run: AsyncIterable<RunFrame>): Promise<RunFrame[]> {
  const frames: RunFrame[] = [];
  for await (const frame of run) frames.push(frame);
  return frames;
}

const textOf = (frames: RunFrame[]) =>
  frames.map((frame) => (frame.kind === "text" ? frame.text : "")).join("");

const question = (text: string) => ({ path: "a.txt", question: text });

describe.each([
  ["a forked process", forkedPort],
  ["a MessagePort", threadPort],
  ["a lane of a shared port", lanePort],
  ["a WebSocket", webSocketPort],
] as [string, () => Port | Promise<Port>][])("the channel over %s", (_name, makePort) => {
  test("answers requests, many at a time", async () => {
    const client = connect(await makePort());
    const replies = await Promise.all([
      client.request("host.hello", {}),
      client.request("heads.list", { model: "a" }),
      client.request("heads.list", { model: "b", device: "cpu", threads: 3 }),
    ]);
    expect(replies[0]).toMatchObject({ ok: true, value: { version: "9.9.9" } });
    expect(replies[1]).toMatchObject({ ok: true, value: { model: "a", fingerprint: "auto 0" } });
    expect(replies[2]).toMatchObject({ ok: true, value: { model: "b", fingerprint: "cpu 3" } });
  });

  test("gives errors as values, a defect as internal", async () => {
    const client = connect(await makePort());
    expect(await client.request("host.check", {})).toEqual({
      ok: false,
      error: { code: "model_not_found", message: "There is no such model." },
    });
    expect(await client.request("models.list", {})).toEqual({
      ok: false,
      error: { code: "internal", message: "a defect" },
    });
  });

  test("refuses input that does not fit the route, and says where", async () => {
    const client = connect(await makePort());
    const wrong = await client.request("heads.list", { threads: -1, model: "" });
    expect(wrong).toMatchObject({ ok: false, error: { code: "invalid_argument" } });
    expect(!wrong.ok && wrong.error.message).toMatch(/threads.*|model.*/);
    const extra = await client.request("host.hello", { extra: 1 } as never);
    expect(extra).toMatchObject({ ok: false, error: { code: "invalid_argument" } });
    const unknown = await client.request("host.nothing" as never, {} as never);
    expect(unknown).toMatchObject({ ok: false, error: { code: "invalid_argument" } });
    const run = client.open("answer.ask", { path: "a", question: "  " });
    expect(await run.result()).toMatchObject({ ok: false, error: { code: "invalid_argument" } });
    expect(await client.open("no.run" as never, {} as never).result()).toMatchObject({
      ok: false,
      error: { code: "invalid_argument" },
    });
  });

  test("streams a run in order and ends with exactly one terminal frame", async () => {
    const client = connect(await makePort());
    const words = Array.from({ length: 2000 }, (_, index) => `w${index}`).join(" ");
    const frames = await framesOf(client.open("answer.ask", question(words)));
    expect(textOf(frames)).toBe(`${words} `);
    expect(frames.filter(isTerminal)).toHaveLength(1);
    expect(frames.at(-1)).toMatchObject({ kind: "done", value: { stop: "end_of_turn" } });
    expect(frames[0]).toEqual({ kind: "notice", message: "budget null" });
    // Words of the same few milliseconds travel together.
    expect(frames.length).toBeLessThan(500);
  });

  test("ends a failing run with its error", async () => {
    const client = connect(await makePort());
    const frames = await framesOf(client.open("document.read", { path: "a" }));
    expect(frames).toEqual([
      { kind: "failed", error: { code: "context_exceeded", message: "Too long." } },
    ]);
  });

  test("stops a run", async () => {
    const client = connect(await makePort());
    const run = client.open("answer.ask", {
      ...question(Array(10_000).fill("word").join(" ")),
      maxTokens: 5,
    });
    for await (const frame of run) {
      if (frame.kind === "text") run.stop();
      if (frame.kind === "done") expect(frame.value).toMatchObject({ stop: "cancelled" });
    }
    const waiting = client.open("heads.calibrate", { texts: ["a"] });
    waiting.stop();
    expect(await waiting.result()).toMatchObject({ ok: false, error: { code: "cancelled" } });
  });

  test("never drops text, but traces when nobody takes them", async () => {
    const client = connect(await makePort());
    const run = client.open("answer.ask", {
      ...question(Array(100).fill("word").join(" ")),
      trace: true,
    });
    await run.result();
    const frames = await framesOf(run);
    expect(textOf(frames)).toBe("word ".repeat(100));
    const traces = frames.filter((frame) => frame.kind === "trace");
    expect(traces).toHaveLength(8);
    expect(traces[0]?.trace).toBeInstanceOf(Uint8Array);
  });

  test("sends words and traces of a few milliseconds in one message", async () => {
    let messages = 0;
    const client = connect(counting(await makePort(), () => messages++));
    const begin = performance.now();
    const run = client.open("answer.ask", {
      ...question(Array(60).fill("word").join(" ")),
      maxTokens: 5,
      trace: true,
    });
    const frames = await framesOf(run);
    expect(textOf(frames)).toBe("word ".repeat(60));
    expect(frames.filter(({ kind }) => kind === "trace").length).toBeGreaterThan(20);
    // One for the notice, one for the end.
    expect(messages).toBeLessThanOrEqual(2 + (performance.now() - begin) / 25);
  });

  test("counts the traces that were dropped", async () => {
    const client = connect(await makePort());
    const fast = Array(30).fill("word").join(" ");
    const slow = Array(200).fill("word").join(" ");
    const run = client.open("answer.ask", { ...question(`${fast} SLOWLY ${slow}`), trace: true });
    let traces = 0;
    let dropped = 0;
    for await (const frame of run) {
      if (frame.kind !== "trace") continue;
      traces++;
      dropped += frame.dropped;
    }
    // Of the first 30 words eight had room; the next trace that had says how many were left out.
    expect(dropped).toBeGreaterThanOrEqual(22);
    expect(traces + dropped).toBeLessThanOrEqual(231);
    expect(traces).toBeGreaterThan(8);
  });

  test("replays what was said to one who attaches late, even after the end", async () => {
    const client = connect(await makePort());
    const run = client.open("answer.ask", question("one two three"));
    await run.result();
    const frames = await framesOf(client.attach(run.runId));
    expect(frames).toMatchObject([
      { kind: "replay", text: "one two three ", notices: ["budget null"] },
      { kind: "done" },
    ]);
    const unknown = await framesOf(client.attach("run-that-never-was"));
    expect(unknown).toMatchObject([{ kind: "failed", error: { code: "invalid_argument" } }]);
  });

  test("asks for a replay when a frame is missing", async () => {
    const client = connect(losing(await makePort(), 2));
    const run = client.open("answer.ask", {
      ...question(Array(30).fill("word").join(" ")),
      maxTokens: 5,
    });
    let text = "";
    let replays = 0;
    for await (const frame of run) {
      if (frame.kind === "text") text += frame.text;
      if (frame.kind === "replay") {
        replays++;
        text = frame.text;
      }
    }
    expect(replays).toBe(1);
    expect(text).toBe("word ".repeat(30));
  });

  test("goes on when one detaches", async () => {
    const client = connect(await makePort());
    const run = client.open("answer.ask", {
      ...question(Array(20).fill("word").join(" ")),
      maxTokens: 5,
    });
    run.detach();
    expect(await framesOf(run)).toEqual([]);
    expect(await client.attach(run.runId).result()).toMatchObject({
      ok: true,
      value: { answer: "word ".repeat(20) },
    });
  });

  test("fails everything under way when the other end goes", async () => {
    const port = await makePort();
    const client = connect(port);
    await client.request("host.hello", {});
    const run = client.open("heads.calibrate", { texts: ["a"] });
    port.close();
    expect(await run.result()).toMatchObject({ ok: false, error: { code: "engine_lost" } });
    expect(await client.request("host.hello", {})).toMatchObject({
      ok: false,
      error: { code: "engine_lost" },
    });
    expect(await client.open("document.read", { path: "a" }).result()).toMatchObject({
      ok: false,
      error: { code: "engine_lost" },
    });
  });
});

describe("a window's port", () => {
  function windowPort(windowFiles: string[] = []): Port {
    const { port1, port2 } = new MessageChannel();
    let closeAsked = false;
    const server = createHostServer(requests, runs, {
      windowFiles: () => windowFiles,
      onCloseAsked: () => {
        closeAsked = true;
      },
    });
    server.serve(messagePort(port1), { isWindow: true });
    closers.push(async () => {
      expect(closeAsked).toBe(false);
      port1.close();
      await server.close();
    });
    return messagePort(port2);
  }

  const id = "a".repeat(64);

  test("may not name files of the machine", async () => {
    const client = connect(windowPort());
    const inputs = [
      client.open("answer.ask", question("one")).result(),
      client.open("answer.ask", { documentId: id, question: "?", model: "/etc/a" }).result(),
      client.open("answer.ask", { documentId: id, question: "?", profile: "a" }).result(),
      client.open("heads.calibrate", { texts: ["a.txt"] }).result(),
      client.request("documents.add", { path: "/etc/passwd" }),
      client.request("heads.list", { model: "..\\a.gguf" }),
      client.request("settings.set", { model: "/a.gguf" }),
    ];
    for (const reply of await Promise.all(inputs)) {
      expect(reply).toMatchObject({ ok: false, error: { code: "not_allowed" } });
    }
    const named = client.open("answer.ask", {
      documentId: id,
      question: "one",
      model: "smollm2-135m",
      profile: "uniform",
    });
    expect(await named.result()).toMatchObject({ ok: true, value: { answer: "one " } });
  });

  test("may name the files that a shell was told to use", async () => {
    const client = connect(windowPort(["/models/own.gguf"]));
    expect(await client.request("heads.list", { model: "/models/own.gguf" })).toMatchObject({
      ok: true,
    });
    expect(await client.request("heads.list", { model: "/models/other.gguf" })).toMatchObject({
      error: { code: "not_allowed" },
    });
  });

  test("can't close the host, and does nothing with what is no message", async () => {
    const port = windowPort();
    const client = connect(port);
    for (const message of [
      null,
      "open",
      { kind: "close" },
      { kind: "close", extra: 1 },
      { kind: "open", runId: "r", route: "answer.ask", input: {}, credits: 1e9 },
      { kind: "open", runId: "x".repeat(65), route: "answer.ask", input: {}, credits: 1 },
      { kind: "request", id: -1, route: "host.hello", input: {} },
    ]) {
      port.post(message);
    }
    expect(await client.request("host.hello", {})).toMatchObject({ ok: true });
    expect(await client.request("__proto__" as never, {} as never)).toMatchObject({
      error: { code: "invalid_argument" },
    });
  });

  test("names a document in exactly one way", async () => {
    const client = connect(threadPort());
    for (const input of [{}, { path: "a", documentId: id }]) {
      expect(
        await client.open("answer.ask", { ...input, question: "?" } as never).result(),
      ).toMatchObject({ ok: false, error: { code: "invalid_argument" } });
    }
  });
});

/** A port that tells of each message of frames. */
const counting = (port: Port, tell: () => void): Port => ({
  ...port,
  onMessage: (listener) =>
    port.onMessage((message) => {
      if ((message as FromHost).kind === "frames") tell();
      listener(message);
    }),
});

/** A port that loses the n-th message of frames. */
function losing(port: Port, nth: number): Port {
  let messages = 0;
  return {
    ...port,
    onMessage: (listener) =>
      port.onMessage((message) => {
        if ((message as FromHost).kind === "frames" && ++messages === nth) return;
        listener(message);
      }),
  };
}

test("a client type names every route", () => {
  const client: HostClient = connect(threadPort());
  // @ts-expect-error -- a route that is not in the contract does not compile
  void client.request("nothing.here", {});
});
