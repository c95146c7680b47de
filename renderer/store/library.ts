import type { DocumentEntry, ReadEntry } from "../../contract/documents.ts";
import type { Result } from "../../contract/errors.ts";
import type { QueueItem } from "../../contract/queue.ts";
import type { AddedDocuments } from "../../contract/shell.ts";
import { t } from "../strings/index.ts";
import { engineChoice } from "./engine.ts";
import { modelInUse } from "./models.ts";
import { pagesInRange } from "./pages.ts";
import { saidError } from "./saidError.ts";
import type { App, LibrarySlice, Slice } from "./state.ts";

export function createLibrarySlice(slice: Slice): LibrarySlice {
  const { get, set, link, shell } = slice;
  const adding = async (count: number, add: () => Promise<Result<AddedDocuments>>) => {
    set((app) => ({ adding: app.adding + count }));
    const result = await add();
    set((app) => ({ adding: app.adding - count }));
    if (result.ok) get().takeAdded(result.value);
    else saidError(get(), result.error);
  };
  /** Makes a change, then shows what became of the lists. */
  const change = async (request: Promise<Result<unknown>>, ...refresh: (() => Promise<void>)[]) => {
    const result = await request;
    if (!result.ok) saidError(get(), result.error);
    await Promise.all(refresh.map((list) => list()));
    return result.ok;
  };
  const { refreshDocuments, refreshReads, refreshQueue } = lists(slice);

  return {
    documents: null,
    readStore: null,
    queue: [],
    adding: 0,
    refreshDocuments,
    refreshReads,
    refreshQueue,
    setQueue(items) {
      set({ queue: items });
      const done = items.filter(({ state }) => state === "done");
      // What is read shows in the library. Another window may dismiss it at the same time.
      for (const { id } of done) void link.request("queue.cancel", { id });
      if (done.length > 0) void Promise.all([refreshDocuments(), refreshReads()]);
    },
    chooseFiles: () => adding(1, () => shell.call("documents.choose", {})),
    addFiles: (files) => adding(files.length, () => shell.addFiles(files)),
    async addText(text) {
      const result = await link.request("documents.addText", { text });
      if (!result.ok) return saidError(get(), result.error);
      get().say({ text: t("library.pasted", { title: result.value.title }) });
      get().takeAdded({ added: [result.value], refused: [] });
    },
    async openSample() {
      const result = await link.request("documents.addSample", {});
      if (!result.ok) return saidError(get(), result.error);
      await refreshDocuments();
      void get().openDocument(result.value.id);
      const { models, settings } = get();
      // It is short: whoever tries it wants to ask. Without a model the window says how to get one.
      if (modelInUse(models, settings.model)?.state === "ready" && wholeRead(result.value) === null)
        void get().startReading(result.value.id, "");
    },
    takeAdded({ added, refused }) {
      for (const { name, error } of refused)
        get().say({ text: t("library.refused", { name }), error });
      void refreshDocuments();
      const [first] = added;
      if (first !== undefined) void get().openDocument(first.id);
    },
    async renameDocument(documentId, title) {
      await change(link.request("documents.rename", { documentId, title }), refreshDocuments);
    },
    async removeDocument(documentId) {
      if (get().document?.id === documentId) get().closeDocument();
      await change(
        link.request("documents.remove", { documentId }),
        refreshDocuments,
        refreshReads,
      );
    },
    async locateDocument(documentId) {
      const result = await shell.call("documents.locate", { documentId });
      if (!result.ok) return saidError(get(), result.error);
      if (result.value === null) return;
      await refreshDocuments();
      void get().openDocument(documentId);
    },
    startReading(documentId, pages) {
      const { settings } = get();
      // What it would take is no question any more.
      get().forgetPreflight();
      const input = {
        documentId,
        ...(pages === "" ? {} : { pages }),
        ...engineChoice(settings),
        maxTokens: settings.maxTokens,
      };
      return change(link.request("queue.add", input), refreshQueue);
    },
    async changeQueue(action, id) {
      await change(link.request(`queue.${action}`, { id }), refreshQueue);
    },
    async pinRead(key, pinned) {
      await change(link.request("reads.pin", { key, pinned }), refreshReads);
    },
    async removeRead(key) {
      await change(link.request("reads.remove", { key }), refreshReads, refreshDocuments);
    },
  };
}

function lists({ get, set, link }: Slice) {
  return {
    async refreshDocuments() {
      const result = await link.request("documents.list", {});
      if (result.ok) set({ documents: result.value });
      else saidError(get(), result.error);
    },
    async refreshReads() {
      const result = await link.request("reads.list", {});
      if (result.ok) set({ readStore: result.value });
    },
    async refreshQueue() {
      const result = await link.request("queue.list", {});
      if (result.ok) set({ queue: result.value });
    },
  };
}

/** The read of a document that goes on or waits. */
export const activeItemOf = (app: App, documentId: string): QueueItem | null =>
  app.queue.find(
    (item) => item.documentId === documentId && item.state !== "done" && item.state !== "failed",
  ) ?? null;

/** The item of the queue for a document, ended ones last. */
export function queueItemOf(app: App, documentId: string): QueueItem | null {
  const last = app.queue.findLast((item) => item.documentId === documentId);
  return activeItemOf(app, documentId) ?? last ?? null;
}

/** The pages that answers are made from: those of the read that goes on, else of the last used one on
 * the disk. Null: all. */
export function pagesInUse(app: App, documentId: string): string | null {
  const active = activeItemOf(app, documentId);
  const entry = app.documents?.find(({ id }) => id === documentId);
  const pages = active?.pages ?? (entry === undefined ? undefined : wholeRead(entry)?.pages);
  if (pages === undefined || entry?.pages == null) return pages ?? null;
  return pagesInRange(pages, entry.pages).length < entry.pages ? pages : null;
}

/** A read that was not stopped, the last used first. */
export const wholeRead = (entry: DocumentEntry): ReadEntry | null =>
  entry.reads
    .filter(({ complete }) => complete)
    .sort((a, b) => b.lastUse.localeCompare(a.lastUse))[0] ?? null;
