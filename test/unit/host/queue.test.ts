// The queue with readings that a test leads step by step; test/e2e/host.test.ts has the engine's.
import { afterEach, describe, expect, test } from "vitest";
import { ScholiaError } from "../../../contract/errors.ts";
import type { QueueItem } from "../../../contract/queue.ts";
import {
  PrefillQueue,
  pagesReadSoFar,
  pagesWithin,
  type ReadingSink,
} from "../../../host/prefill/queue.ts";
import { type QueueRow, QueueRows } from "../../../host/store/queue.ts";
import { dataFolder } from "../store/folder.ts";

const folder = dataFolder();
const engine = { device: "cpu", threads: 1 } as const;

/** A reading under way. */
interface Led {
  row: QueueRow;
  sink: ReadingSink;
  /** Reads on to so many of 1,000 tokens; ten pages of 100 after 20 others. */
  to(done: number): void;
  finish(error?: Error): void;
}

const queues: PrefillQueue[] = [];
afterEach(async () => {
  for (const queue of queues.splice(0)) await queue.close();
});

async function openQueue() {
  const library = await folder.open();
  const documents: string[] = [];
  for (const name of ["a", "b", "c"]) {
    documents.push((await library.documents.add(await folder.write(`${name}.txt`, name))).id);
  }
  const rows = new QueueRows(library.database);
  const begun: Led[] = [];
  const announced: QueueItem[][] = [];
  const makeQueue = () => {
    const queue = new PrefillQueue(
      rows,
      (row, sink) =>
        new Promise((resolve, reject) => {
          const pages = Array.from({ length: 10 }, (_, at) => ({ number: at + 1, tokens: 100 }));
          sink.context({
            documentTokens: 1000,
            aroundTokens: 30,
            leadingTokens: 20,
            historyTokens: 0,
            questionTokens: 0,
            answerTokens: 0,
            contextTokens: 8192,
            pages,
          });
          const report = { phase: "prefill", total: 1030, unit: "tokens", seconds: 1 } as const;
          begun.push({
            row,
            sink,
            to: (done) => sink.progress({ ...report, done, rate: 100, secondsLeft: 1 }),
            finish: (error) => (error === undefined ? resolve() : reject(error)),
          });
          const stop = () => reject(new ScholiaError("cancelled", "Stopped."));
          if (sink.signal.aborted) stop();
          sink.signal.addEventListener("abort", stop);
        }),
      (items) => announced.push(items),
    );
    queues.push(queue);
    return queue;
  };
  const begins = async (count: number) => {
    await expect.poll(() => begun.length, { timeout: 5000 }).toBe(count);
    return begun[count - 1]!;
  };
  return { documents, rows, begins, begun, announced, makeQueue };
}

const states = (queue: PrefillQueue) => queue.list().map(({ state }) => state);

describe("the prefill queue", () => {
  test("reads one document after the other, and tells of every step", async () => {
    const { documents, begins, announced, makeQueue } = await openQueue();
    const queue = makeQueue();
    queue.start();
    const item = queue.add({ documentId: documents[0]!, engine, maxTokens: 64 });
    expect(item).toMatchObject({ title: "a.txt", doneTokens: 0, pagesRead: null });
    queue.add({ documentId: documents[1]!, engine, maxTokens: 64 });
    const first = await begins(1);
    expect(states(queue)).toEqual(["reading", "waiting"]);
    first.to(330);
    expect(announced.at(-1)![0]).toMatchObject({
      doneTokens: 330,
      totalTokens: 1030,
      pagesRead: "1-3",
      rate: 100,
      secondsLeft: 1,
    });
    first.finish();
    await begins(2);
    expect(states(queue)).toEqual(["done", "reading"]);
    // The same document is not read twice at a time, and again when it was done.
    expect(queue.add({ documentId: documents[1]!, engine, maxTokens: 64 }).state).toBe("reading");
    expect(states(queue)).toEqual(["done", "reading"]);
    queue.add({ documentId: documents[0]!, engine, maxTokens: 64 });
    expect(states(queue)).toEqual(["reading", "waiting"]);
  });

  test("gives way to questions and goes on by itself", async () => {
    const { documents, begins, begun, makeQueue } = await openQueue();
    const queue = makeQueue();
    queue.start();
    queue.add({ documentId: documents[0]!, engine, maxTokens: 64 });
    queue.add({ documentId: documents[1]!, engine, maxTokens: 64 });
    (await begins(1)).to(530);
    let answer = () => {};
    const asked = queue.whileYielding(
      () =>
        new Promise<string>((resolve) => {
          answer = () => resolve("answered");
        }),
    );
    await expect.poll(() => states(queue)).toEqual(["yielding", "waiting"]);
    expect(pagesReadSoFar(queue.unfinished(documents[0]!)!)).toBe("1-5");
    expect(begun).toHaveLength(1);
    answer();
    expect(await asked).toBe("answered");
    const again = await begins(2);
    expect(again.row.documentId).toBe(documents[0]);
    // What was read is found again from the start: the count does not go back.
    again.to(100);
    expect(queue.list()[0]).toMatchObject({ state: "reading", doneTokens: 530 });
    again.finish();
  });

  test("pauses, resumes and cancels what it reads and what waits", async () => {
    const { documents, begins, makeQueue } = await openQueue();
    const queue = makeQueue();
    queue.start();
    const [a, b, c] = documents.map(
      (documentId) => queue.add({ documentId, engine, maxTokens: 64 }).id,
    );
    (await begins(1)).to(430);
    queue.pause(a!);
    queue.pause(c!);
    const second = await begins(2);
    expect(second.row.id).toBe(b);
    expect(states(queue)).toEqual(["paused", "reading", "paused"]);
    queue.cancel(b!);
    await expect.poll(() => states(queue)).toEqual(["paused", "paused"]);
    queue.resume(c!);
    queue.first(c!);
    expect((await begins(3)).row.id).toBe(c);
    queue.resume(a!);
    queue.cancel(c!);
    const last = await begins(4);
    expect([last.row.id, last.row.doneTokens, last.row.pagesRead]).toEqual([a, 430, "1-4"]);
    expect(() => queue.pause(b!)).toThrow(/not in the queue/);
  });

  test("keeps the reason of what failed, and reads it again when asked", async () => {
    const { documents, begins, makeQueue } = await openQueue();
    const queue = makeQueue();
    queue.start();
    const { id } = queue.add({ documentId: documents[0]!, engine, maxTokens: 64 });
    (await begins(1)).finish(new ScholiaError("context_exceeded", "Too long."));
    await expect.poll(() => states(queue)).toEqual(["failed"]);
    expect(queue.list()[0]?.error).toEqual({ code: "context_exceeded", message: "Too long." });
    queue.resume(id);
    await begins(2);
    expect(queue.list()[0]).toMatchObject({ state: "reading", error: null });
  });

  test("goes on after its host died or was closed; what was paused stays so", async () => {
    const { documents, rows, begins, makeQueue } = await openQueue();
    const queue = makeQueue();
    queue.start();
    const [a, b] = documents.map(
      (documentId) => queue.add({ documentId, engine, maxTokens: 64 }).id,
    );
    (await begins(1)).to(730);
    queue.pause(b!);
    await queue.close();
    expect(rows.get(a!)).toMatchObject({ state: "waiting", doneTokens: 730, pagesRead: "1-7" });
    // As a host leaves it that was killed.
    rows.claimNext();
    const database = (await folder.open()).database;
    database.run("UPDATE queue SET host = '1:1' WHERE id = ?", a!);
    const next = makeQueue();
    expect(states(next)).toEqual(["reading", "paused", "waiting"]);
    next.start();
    expect((await begins(2)).row).toMatchObject({ id: a, pagesRead: "1-7" });
    expect(states(next)).toEqual(["reading", "paused", "waiting"]);
  });

  test("keeps to what the reader has chosen when its host closes meanwhile", async () => {
    const { documents, rows, begins, makeQueue } = await openQueue();
    const queue = makeQueue();
    queue.start();
    const { id } = queue.add({ documentId: documents[0]!, engine, maxTokens: 64 });
    await begins(1);
    queue.cancel(id);
    await queue.close();
    expect(rows.list()).toEqual([]);
    const next = makeQueue();
    next.start();
    const paused = next.add({ documentId: documents[1]!, engine, maxTokens: 64 });
    await begins(2);
    next.pause(paused.id);
    await next.close();
    expect(rows.get(paused.id).state).toBe("paused");
  });

  test("says when nothing is read yet", async () => {
    const { documents, begins, makeQueue } = await openQueue();
    const queue = makeQueue();
    queue.start();
    queue.add({ documentId: documents[0]!, engine, maxTokens: 64 });
    await begins(1);
    expect(() => pagesReadSoFar(queue.unfinished(documents[0]!)!)).toThrow(/No page/);
    expect(queue.unfinished(documents[1]!)).toBeUndefined();
  });
});

test("a page is read when its last token is", () => {
  const context = {
    leadingTokens: 5,
    pages: [
      { number: 3, tokens: 10 },
      { number: 4, tokens: 1 },
      { number: 9, tokens: 10 },
    ],
  };
  expect(pagesWithin(context, 14)).toEqual([]);
  expect(pagesWithin(context, 15)).toEqual([3]);
  expect(pagesWithin(context, 16)).toEqual([3, 4]);
  expect(pagesWithin(context, 25)).toEqual([3, 4]);
  expect(pagesWithin(context, 26)).toEqual([3, 4, 9]);
});
