/** Documents, what was read of them, and the queue of reads. */
import { stat } from "node:fs/promises";
import { ScholiaError } from "../../contract/errors.ts";
import type { RequestHandlers, RunHandlers } from "../channel.ts";
import { detailOf, find, pageText } from "../document/textLayer.ts";
import { preflight } from "../prefill/preflight.ts";
import { read, titleOf } from "../prefill/readDocument.ts";
import { keepSample, keepText, removeCopy } from "../store/copies.ts";
import { acted, type Parts } from "./parts.ts";

export function documentRequests({ library, queue, pictures, opening, dataDir, changed }: Parts) {
  const addDocument = async (path: string) => {
    const entry = await library.documents.add(path);
    changed("documents", entry.id);
    return entry;
  };
  return {
    "documents.list": () => library.documents.list(),
    "documents.add": ({ path }) => addDocument(path),
    "documents.addText": async ({ text }) => addDocument(await keepText(dataDir, text)),
    "documents.addSample": async () => addDocument(await keepSample(dataDir)),
    "documents.remove": async ({ documentId }) => {
      for (const item of queue.list()) if (item.documentId === documentId) queue.cancel(item.id);
      const { path } = await library.documents.get(documentId);
      await library.documents.remove(documentId);
      await removeCopy(dataDir, documentId, path);
      changed("documents", documentId);
      changed("reads");
      return null;
    },
    "documents.rename": async ({ documentId, title }) => {
      const entry = await library.documents.rename(documentId, title);
      changed("documents", documentId);
      return entry;
    },
    "document.page": async ({ page, ...named }) =>
      pageText((await opening.quietly(named)).document, page),
    "document.picture": async ({ documentId, page, width }) => {
      const { kind, name } = await library.documents.get(documentId);
      if (kind !== "pdf") {
        throw new ScholiaError("document_unsupported", `${name} has no pages to draw.`);
      }
      const path = await library.documents.locate(documentId);
      const { mtimeMs } = await stat(path);
      return pictures.draw(`${documentId} ${mtimeMs}`, { path, name }, page, width);
    },
    "document.find": async ({ query, limit, ...named }) =>
      find((await opening.quietly(named)).document, query, limit),
    "reads.list": () => library.reads.store(library.settings.get().diskLimitBytes),
    "reads.pin": async ({ key, pinned }) => {
      library.reads.pin(key, pinned);
      changed("reads");
      return null;
    },
    "reads.remove": async ({ key }) => {
      await library.reads.remove(key);
      changed("reads");
      changed("documents");
      return null;
    },
    "queue.list": async () => queue.list(),
    "queue.add": async ({ documentId, pages, maxTokens, ...engine }) => {
      await library.documents.locate(documentId);
      return queue.add({ documentId, pages, maxTokens, engine });
    },
    "queue.pause": async ({ id }) => acted(() => queue.pause(id)),
    "queue.resume": async ({ id }) => acted(() => queue.resume(id)),
    "queue.cancel": async ({ id }) => acted(() => queue.cancel(id)),
    "queue.first": async ({ id }) => acted(() => queue.first(id)),
  } satisfies Partial<RequestHandlers>;
}

/** Documents are opened before the engine: what is wrong with a file is said at once. */
export function documentRuns(parts: Parts) {
  const { library, documents, room, queue, opening, dataDir, changed, makeRoom } = parts;
  return {
    "document.open": async (input, sink) => {
      const { document } = await opening.noted(input, sink);
      const { title } = await library.documents.get(document.id).catch(() => ({
        title: titleOf(document),
      }));
      changed("documents", document.id);
      return detailOf(document, title);
    },
    "document.preflight": async (input, sink) => {
      const { document } = await opening.noted(input, sink);
      return queue.whileYielding(() =>
        room.use(input, sink, (resident) =>
          preflight(input, document, resident, documents, { rates: library.rates, dataDir }),
        ),
      );
    },
    "document.read": async (input, sink) => {
      const { document, path } = await opening.noted(input, sink);
      const named = { ...input, path };
      const report = await room.use(input, sink, (resident) =>
        read(named, document, resident, documents, library, sink),
      );
      await makeRoom([report.key]);
      return report;
    },
  } satisfies Partial<RunHandlers>;
}
