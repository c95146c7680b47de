// The host as windows use it, on the real engine: library, queue, chats, two windows at a time.
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { connect, type HostClient } from "../../contract/client.ts";
import type { DocumentEntry } from "../../contract/documents.ts";
import type { Result } from "../../contract/errors.ts";
import type { MemorySample } from "../../contract/memory.ts";
import type { QueueItem } from "../../contract/queue.ts";
import { isTerminal, type RunFrame } from "../../contract/stream.ts";
import { type HostProcess, startHost } from "../../host/process.ts";
import { pdfOf, textWith } from "./madeUpDocuments.ts";
import { until, usePlace } from "./scholia.ts";

vi.setConfig({ testTimeout: 400_000 });

const place = usePlace();
const engine = { model: "smollm2-135m", threads: 1 } as const;
const code = "The door code of Ida's boathouse is 48213.";
let host: HostProcess;
let pdf: DocumentEntry;
let long: DocumentEntry;

beforeAll(async () => {
  host = startHost({ dataDir: place.data });
  const add = async (name: string, pages: number, planted: Record<number, string>) => {
    const texts = Array.from({ length: pages }, (_, page) =>
      textWith(planted[page + 1] === undefined ? [] : [planted[page + 1]!], 250, pages * page + 1),
    );
    const path = await place.write(name, pdfOf(texts));
    return value(await host.client.request("documents.add", { path }));
  };
  pdf = await add("short.pdf", 2, { 2: code });
  long = await add("long.pdf", 12, { 1: code });
});

afterAll(() => host.close());

function value<Value>(result: Result<Value>): Value {
  if (!result.ok) throw new Error(`${result.error.code}: ${result.error.message}`);
  return result.value;
}

/** A window of its own, and the queue as it last heard of it. */
function openWindow(): {
  client: HostClient;
  queue: () => QueueItem[];
  samples: MemorySample[];
} {
  const client = connect(host.openLane());
  let items: QueueItem[] = [];
  const samples: MemorySample[] = [];
  client.onEvent((event) => {
    if (event.kind === "queue") items = event.items;
    if (event.kind === "memory") samples.push(event.sample);
  });
  return { client, queue: () => items, samples };
}

async function collect(
  run: AsyncIterable<RunFrame>,
  onFrame: (frame: RunFrame) => void = () => {},
) {
  const frames: RunFrame[] = [];
  for await (const frame of run) {
    frames.push(frame);
    onFrame(frame);
  }
  return frames;
}

describe("a window's library", () => {
  test("shows pages, pictures and passages of a document", async () => {
    const { client } = openWindow();
    const detail = value(await client.open("document.open", { documentId: pdf.id }).result());
    expect(detail).toMatchObject({ documentPages: 2, hasLayout: true, kind: "pdf" });
    const request = { documentId: pdf.id, page: 2 };
    const page = value(await client.request("document.page", request));
    expect(page.text.replace(/\s+/g, " ")).toContain(code);
    const picture = value(await client.request("document.picture", { ...request, width: 300 }));
    expect(picture.image).toBeInstanceOf(Uint8Array);
    expect([...picture.image.subarray(0, 4)]).toEqual([0x89, 0x50, 0x4e, 0x47]);
    const { passages } = value(
      await client.request("document.find", { documentId: pdf.id, query: "door code" }),
    );
    expect(passages).toMatchObject([{ page: 2 }]);
    expect(value(await client.request("documents.list", {}))).toHaveLength(2);
  });

  test("tells what reading would take, and that no time is measured yet", async () => {
    const { client } = openWindow();
    const input = { documentId: pdf.id, ...engine, maxTokens: 64 };
    const before = value(await client.open("document.preflight", input).result());
    expect(before).toMatchObject({
      fits: true,
      problem: null,
      cachedTokens: 0,
      readSeconds: null,
      measurements: 0,
      contextTokens: 8192,
    });
    expect(before.documentTokens).toBeGreaterThan(400);
    const tokens = before.documentTokens + before.aroundTokens + before.answerTokens;
    expect(before.memory.kvBytes).toBe(tokens * 30 * 3 * 64 * 4);
    const huge = { ...input, maxTokens: 8000 };
    const tooLong = value(await client.open("document.preflight", huge).result());
    expect(tooLong).toMatchObject({ fits: false, problem: { code: "context_exceeded" } });
  });
});

describe("the queue", () => {
  test("pauses a reading, survives a killed host, and goes on from what was saved", async () => {
    const window = openWindow();
    const item = value(
      await window.client.request("queue.add", { documentId: long.id, ...engine, maxTokens: 64 }),
    );
    const now = () => window.queue().find(({ id }) => id === item.id);
    // Two runs of 1,024 tokens are on the disk then.
    await until(() => ((now()?.doneTokens ?? 0) >= 2048 ? true : undefined), 300);
    // The engine's memory is told while it reads, and grows with what is read.
    const reads = window.samples.filter(({ doing }) => doing === "prefill");
    expect(reads.length).toBeGreaterThan(2);
    expect(reads.at(-1)!.kvBytes).toBeGreaterThan(reads[0]!.kvBytes);
    const held = value(await window.client.request("memory.map", {}));
    expect(held.timeline.at(-1)!.kvBytes).toBeGreaterThanOrEqual(reads.at(-1)!.kvBytes);
    value(await window.client.request("queue.pause", { id: item.id }));
    const paused = await until(() => (now()?.state === "paused" ? now() : undefined));
    expect(paused.pagesRead).toMatch(/^1(-\d+)?$/);
    expect(paused.totalTokens).toBeGreaterThan(paused.doneTokens);

    process.kill(host.pid, "SIGKILL");
    await host.exited;
    host = startHost({ dataDir: place.data });
    const again = openWindow();
    const [kept] = value(await again.client.request("queue.list", {}));
    expect(kept).toMatchObject({ id: item.id, state: "paused", pagesRead: paused.pagesRead });
    value(await again.client.request("queue.resume", { id: item.id }));
    const reading = await until(() => {
      const current = again.queue().find(({ id }) => id === item.id);
      return (current?.cachedTokens ?? 0) > 0 ? current : undefined;
    }, 300);
    expect(reading.cachedTokens).toBeGreaterThanOrEqual(2048);
    // A question goes first and is answered from the pages that are read.
    const chat = value(await again.client.request("chat.open", { documentId: long.id }));
    const answer = value(
      await again.client
        .open("answer.ask", {
          documentId: long.id,
          ...engine,
          question: "What is the door code of Ida's boathouse?",
          chatId: chat.chatId,
          readSoFar: true,
          maxTokens: 24,
        })
        .result(),
    );
    expect(answer.coverage).toMatchObject({ readSoFar: true, documentPages: 12 });
    expect(answer.coverage.pages).toMatch(/^1-\d+$/);
    expect(answer.coverage.pages).not.toBe("1-12");
    expect(answer.coverage.tokensInContext).toBe(answer.coverage.documentTokens);
    await until(
      () => (again.queue().find(({ id }) => id === item.id)?.state === "done" ? true : undefined),
      300,
    );
    const read = value(await again.client.request("reads.list", {}));
    const whole = read.reads.find(({ documentId, complete }) => documentId === long.id && complete);
    expect(whole).toMatchObject({ pages: "1-12", storedTokens: whole?.tokens });
    expect(read.bytes).toBeGreaterThan(whole!.bytes / 2);
  });
});

describe("chats", () => {
  test("are trees; a second window follows an answer and finds everything later", async () => {
    const [one, two] = [openWindow(), openWindow()];
    const followed: Promise<RunFrame[]>[] = [];
    two.client.onEvent((event) => {
      if (event.kind === "asked") followed.push(collect(two.client.attach(event.runId)));
    });
    const { chatId } = value(await one.client.request("chat.open", { documentId: pdf.id }));
    const ask = (question: string, more: object = {}) =>
      one.client.open("answer.ask", {
        documentId: pdf.id,
        ...engine,
        question,
        chatId,
        maxTokens: 24,
        trace: true,
        ...more,
      });
    const frames = await collect(ask("What is the door code of Ida's boathouse?"));
    const kinds = new Set(frames.map(({ kind }) => kind));
    for (const kind of ["turn", "context", "text", "trace", "done"] as const) {
      expect(kinds).toContain(kind);
    }
    const seen = await followed[0]!;
    expect(seen[0]).toMatchObject({ kind: "replay" });
    expect(seen.filter(isTerminal)).toHaveLength(1);
    const first = value(await one.client.request("chat.get", { chatId })).tree[0]!;
    expect(first).toMatchObject({ state: "answered", parentId: null });
    expect(first.text).toContain("48213");
    const context = frames.find((frame) => frame.kind === "context")!;
    expect(context).toMatchObject({
      context: { documentTokens: first.answer!.coverage.documentTokens },
    });

    // Asked again, densely: another branch, and nothing of the document is read again.
    const dense = value(
      await ask(first.question, { parentId: first.parentId, mode: "dense" }).result(),
    );
    expect(dense.coverage.mode).toBe("dense");
    expect(dense.timing.cachedTokens).toBeGreaterThan(dense.coverage.documentTokens);
    const chat = value(await two.client.request("chat.get", { chatId }));
    expect(chat.tree.map(({ parentId }) => parentId)).toEqual([null, null]);
    expect(chat.shown).toBe(chat.tree[1]!.id);
    const map = value(await two.client.request("chat.readMap", { turnId: first.id }));
    expect(map.whole.some((share) => share > 0)).toBe(true);
    expect(map.pages.map(({ number }) => number)).toEqual([1, 2]);
    // The budget covers this document: everything is kept.
    expect(map.heads?.blocksRead).toHaveLength(90);
    expect(map.heads?.keptSteps[0]).toBe(0);
    expect(map.heads?.massKept.every((share) => share === 1)).toBe(true);
    const timed = value(
      await one.client.open("timing.steps", { ...engine, budgetTokens: 256, steps: 2 }).result(),
    );
    expect(timed.depthTokens).toBeGreaterThan(dense.coverage.documentTokens);
    expect(timed.modes.map(({ mode }) => mode)).toEqual(["ab-sparse", "dense"]);
    const bytesOf = (index: number) =>
      timed.modes[index]!.stages.reduce((sum, { bytes }) => sum + bytes, 0);
    expect(bytesOf(0)).toBeLessThan(bytesOf(1));
    const exported = value(await one.client.request("chat.export", { chatId, format: "markdown" }));
    expect(exported.text).toContain("48213");
    const rates = value(await one.client.request("rates.list", {}));
    expect(new Set(rates.map(({ what }) => what))).toContain("prefill");
    const memory = value(await one.client.request("memory.map", {}));
    expect(memory.root.children!.reduce((sum, { bytes }) => sum + bytes, 0)).toBeCloseTo(
      memory.root.bytes,
    );
    // Named to the last byte: what the engine counts and the rest make up the process.
    const own = memory.root.children!.filter(
      ({ kind, name }) => kind !== "free" && name !== "Other programs",
    );
    const held = own.reduce((sum, { bytes }) => sum + bytes, 0);
    expect(held).toBeCloseTo(memory.residentBytes);
    expect(own.find(({ kind }) => kind === "kept")!.bytes).toBeGreaterThan(0);
    const estimate = value(await one.client.request("memory.estimate", engine));
    expect(estimate).toMatchObject({
      kvBytesPerToken: 30 * 3 * 64 * 4,
      weightsBytes: dense.memory.weightsBytes,
      workspaceBytes: dense.memory.workspaceBytes,
    });
    const { text } = value(await one.client.request("host.diagnostics", {}));
    expect(text).not.toContain("48213");
    expect(text).not.toContain("short.pdf");
  });

  test("keep the words of an answer whose host was killed, and say so", async () => {
    const { client } = openWindow();
    const { chatId } = value(await client.request("chat.open", { documentId: pdf.id }));
    const run = client.open("answer.ask", {
      documentId: pdf.id,
      ...engine,
      question: "Write a very long story about the harbour and every boat in it.",
      chatId,
      maxTokens: 1500,
    });
    let text = "";
    const turnOf = async () => value(await client.request("chat.get", { chatId })).tree[0];
    const frames = collect(run, (frame) => {
      if (frame.kind === "text") text += frame.text;
    });
    const kept = await until(async () => {
      const turn = await turnOf();
      return (turn?.text.length ?? 0) > 40 ? turn : undefined;
    }, 300);
    expect(kept).toMatchObject({ state: "writing", runId: run.runId });
    process.kill(host.pid, "SIGKILL");
    expect((await frames).at(-1)).toMatchObject({
      kind: "failed",
      error: { code: "engine_lost" },
    });
    host = startHost({ dataDir: place.data });
    const again = openWindow();
    const [turn] = value(await again.client.request("chat.get", { chatId })).tree;
    expect(turn).toMatchObject({ state: "interrupted", runId: null });
    expect(text.startsWith(turn!.text.slice(0, 40))).toBe(true);
  });
});
