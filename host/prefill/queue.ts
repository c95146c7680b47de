/** The prefill queue: documents are read one after the other by the one engine. A question goes first:
 * the reading stops at its next chunk and goes on after the answer. What is read is a chain of run
 * files, so pausing is stopping, and going on finds everything that was read. */
import type { ContextShare } from "../../contract/chats.ts";
import { type ErrorValue, ScholiaError, toErrorValue } from "../../contract/errors.ts";
import type { QueueItem } from "../../contract/queue.ts";
import type { EngineSettings } from "../../contract/routes.ts";
import type { Progress } from "../../contract/stream.ts";
import type { RunSink } from "../channel.ts";
import { formatRanges } from "../document/ranges.ts";
import type { QueueChange, QueueRow, QueueRows } from "../store/queue.ts";

export interface QueueInput {
  documentId: string;
  pages?: string | undefined;
  engine: EngineSettings;
  maxTokens: number;
}

export type ReadingSink = Pick<RunSink, "progress" | "notice" | "context" | "signal">;

/** Reads one document to its end.
 * @throws ScholiaError `cancelled` when the signal stops it; what is read is kept */
export type ReadOne = (row: QueueRow, sink: ReadingSink) => Promise<void>;

/** Why a reading is stopped before its end. */
type StopReason = "pause" | "cancel" | "question" | "close";

interface Reading {
  id: string;
  aborter: AbortController;
  reason: StopReason | null;
  context: ContextShare | null;
  doneTokens: number;
  cachedTokens: number;
  rate: number | null;
  secondsLeft: number | null;
  savedAt: number;
}

/** Progress is written down this often, and whenever a reading stops. */
const saveEveryMs = 3000;

export class PrefillQueue {
  private readonly rows: QueueRows;
  private readonly readOne: ReadOne;
  private readonly announce: (items: QueueItem[]) => void;
  private reading: Reading | null = null;
  private questions = 0;
  private closed = false;
  private worker: Promise<void> | null = null;
  private wake: () => void = () => {};

  constructor(rows: QueueRows, readOne: ReadOne, announce: (items: QueueItem[]) => void) {
    this.rows = rows;
    this.readOne = readOne;
    this.announce = announce;
  }

  /** Begins to read what waits, also what an earlier host was at. May be called again. */
  start(): void {
    if (this.worker !== null) return;
    this.rows.recover();
    this.worker = this.work();
  }

  list(): QueueItem[] {
    return this.rows.list().map((row) => this.item(row));
  }

  /** A document that is already in the queue with these pages and this model is not read twice. */
  add(input: QueueInput): QueueItem {
    const pages = input.pages ?? null;
    const same = this.rows
      .list()
      .find(
        (row) =>
          row.documentId === input.documentId &&
          row.pages === pages &&
          JSON.stringify(row.engine) === JSON.stringify(input.engine),
      );
    if (same !== undefined && same.state !== "done" && same.state !== "failed") {
      if (same.state === "paused") this.resume(same.id);
      return this.item(this.rows.get(same.id));
    }
    if (same !== undefined) this.rows.remove(same.id);
    const { documentId, engine, maxTokens } = input;
    const id = this.rows.add({ documentId, pages, engine, maxTokens });
    this.changed();
    return this.item(this.rows.get(id));
  }

  /** @throws ScholiaError `not_found` */
  pause(id: string): void {
    const { state } = this.rows.get(id);
    if (this.reading?.id === id) this.stop("pause");
    else if (state === "waiting" || state === "yielding") this.change(id, { state: "paused" });
  }

  /** @throws ScholiaError `not_found` */
  resume(id: string): void {
    const { state } = this.rows.get(id);
    if (this.reading?.id === id && this.reading.reason === "pause") {
      this.reading.reason = "question";
    } else if (state === "paused" || state === "failed") {
      this.change(id, { state: "waiting", error: null });
    }
  }

  /** @throws ScholiaError `not_found` */
  cancel(id: string): void {
    this.rows.get(id);
    if (this.reading?.id === id) {
      this.stop("cancel");
    } else {
      this.rows.remove(id);
      this.changed();
    }
  }

  /** To the head of those that wait; the one being read goes on.
   * @throws ScholiaError `not_found` */
  first(id: string): void {
    this.rows.get(id);
    this.rows.toHead(id);
    this.changed();
  }

  /** The document's item that is not read to its end; undefined when there is none. */
  unfinished(documentId: string): QueueItem | undefined {
    return this.list().find((item) => item.documentId === documentId && item.state !== "done");
  }

  /** Does the work with the engine free of reading, which goes on afterwards. */
  async whileYielding<T>(work: () => Promise<T>): Promise<T> {
    this.questions++;
    if (this.reading?.reason === null) this.stop("question");
    try {
      return await work();
    } finally {
      this.questions--;
      this.wake();
    }
  }

  async close(): Promise<void> {
    this.closed = true;
    this.stop("close");
    this.wake();
    await this.worker;
  }

  private async work(): Promise<void> {
    while (!this.closed) {
      const row = this.questions === 0 ? this.rows.claimNext() : undefined;
      if (row === undefined) {
        await new Promise<void>((resolve) => {
          this.wake = resolve;
        });
      } else {
        await this.read(row);
      }
    }
  }

  private async read(row: QueueRow): Promise<void> {
    const reading: Reading = {
      id: row.id,
      aborter: new AbortController(),
      reason: null,
      context: null,
      doneTokens: row.doneTokens,
      cachedTokens: 0,
      rate: null,
      secondsLeft: null,
      savedAt: performance.now(),
    };
    this.reading = reading;
    this.changed();
    let outcome: QueueChange;
    try {
      await this.readOne(row, this.sinkOf(reading));
      outcome = { state: "done", error: null };
    } catch (error) {
      outcome = stopped(reading.reason, toErrorValue(error));
    }
    this.reading = null;
    if (reading.reason === "cancel" && outcome.state !== "done") this.rows.remove(row.id);
    else this.rows.change(row.id, { ...this.progressOf(reading), ...outcome });
    this.rows.giveBack(row.id);
    this.changed();
  }

  private sinkOf(reading: Reading): ReadingSink {
    return {
      signal: reading.aborter.signal,
      notice: () => {},
      context: (context) => {
        reading.context = context;
        this.save(reading);
      },
      progress: (progress) => this.progress(reading, progress),
    };
  }

  private progress(reading: Reading, { phase, done, rate, secondsLeft }: Progress) {
    if (phase !== "prefill") return;
    // After a question the reading finds again what it had: the count does not go back.
    reading.doneTokens = Math.max(reading.doneTokens, done);
    if (rate === null) reading.cachedTokens = done;
    reading.rate = rate;
    reading.secondsLeft = secondsLeft;
    if (performance.now() - reading.savedAt >= saveEveryMs) this.save(reading);
    this.announce(this.list());
  }

  private save(reading: Reading) {
    reading.savedAt = performance.now();
    this.change(reading.id, this.progressOf(reading));
  }

  private progressOf({ doneTokens, context }: Reading): QueueChange {
    if (context === null) return {};
    const pagesRead = pagesWithin(context, doneTokens);
    return {
      doneTokens,
      totalTokens: context.documentTokens + context.aroundTokens,
      pagesRead: pagesRead.length === 0 ? null : formatRanges(pagesRead),
    };
  }

  private stop(reason: StopReason) {
    if (this.reading === null) return;
    // What the reader has chosen stands, whatever else stops the reading.
    const { reason: before } = this.reading;
    const isChosen = before === "pause" || before === "cancel";
    if (!isChosen || reason === "cancel") this.reading.reason = reason;
    this.reading.aborter.abort();
  }

  private change(id: string, change: QueueChange) {
    this.rows.change(id, change);
    this.changed();
  }

  private changed() {
    this.announce(this.list());
    this.wake();
  }

  private item(row: QueueRow): QueueItem {
    const live = this.reading?.id === row.id ? this.reading : null;
    const stored = live === null ? row : { ...row, ...this.progressOf(live) };
    return {
      id: row.id,
      documentId: row.documentId,
      title: row.title,
      pages: row.pages ?? `1-${row.documentPages ?? ""}`,
      model: row.engine.model ?? null,
      state: row.state,
      doneTokens: stored.doneTokens ?? 0,
      totalTokens: stored.totalTokens ?? null,
      cachedTokens: live?.cachedTokens ?? 0,
      rate: live?.rate ?? null,
      secondsLeft: live?.secondsLeft ?? null,
      pagesRead: stored.pagesRead ?? null,
      error: row.error,
      addedAt: row.addedAt,
    };
  }
}

/** What becomes of a reading that ended before its end. */
function stopped(reason: StopReason | null, error: ErrorValue): QueueChange {
  if (reason === null || error.code !== "cancelled") return { state: "failed", error };
  const states = {
    pause: "paused",
    question: "yielding",
    close: "waiting",
    cancel: "paused",
  } as const;
  return { state: states[reason], error: null };
}

/** Pages whose tokens all lie among the first `doneTokens` of the read. */
export function pagesWithin(
  { leadingTokens, pages }: Pick<ContextShare, "leadingTokens" | "pages">,
  doneTokens: number,
): number[] {
  let end = leadingTokens;
  const read: number[] = [];
  for (const { number, tokens } of pages) {
    end += tokens;
    if (end > doneTokens) break;
    read.push(number);
  }
  return read;
}

/** The pages that a question about the part read so far is answered from.
 * @throws ScholiaError `document_no_text` when no page is read yet */
export function pagesReadSoFar(item: QueueItem): string {
  if (item.pagesRead !== null) return item.pagesRead;
  throw new ScholiaError(
    "document_no_text",
    "No page of the document is read yet: ask again in a moment, or ask and wait for the whole of it.",
  );
}
