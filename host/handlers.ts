/** What answers each route. */
import { rm, stat } from "node:fs/promises";
import { ScholiaError } from "../contract/errors.ts";
import type { CheckLine, RequestInput } from "../contract/routes.ts";
import type { HostEvent } from "../contract/wire.ts";
import { Asker } from "./answer/askInLibrary.ts";
import { bench } from "./answer/bench.ts";
import { exportChat } from "./answer/exportChat.ts";
import { decodeReadMap } from "./answer/readMap.ts";
import type { HostServer, RequestHandlers, RunHandlers, RunSink } from "./channel.ts";
import { diagnosticsText } from "./diagnostics.ts";
import { checkMachine } from "./doctor.ts";
import type { Document } from "./document/document.ts";
import { PagePictures } from "./document/pdf/pagePictures.ts";
import { detailOf, find, pageText } from "./document/textLayer.ts";
import { type LogLine, onEngineLog } from "./engine/engine.ts";
import { memoryEstimate } from "./engine/memoryEstimate.ts";
import { MemoryTimeline, memoryMap } from "./engine/memoryMap.ts";
import { probeModel } from "./engine/probeModel.ts";
import { calibrate } from "./kv/calibrate.ts";
import { findModel, isDownloaded, modelPath } from "./models/catalog.ts";
import { fetchModel } from "./models/fetchModel.ts";
import { ggufTensors, type TensorSize } from "./models/ggufTensors.ts";
import { blockSizes } from "./models/headProfile.ts";
import { headTable } from "./models/headTable.ts";
import { listModels } from "./models/listModels.ts";
import { downloadProgress, modelFile } from "./models/modelFile.ts";
import { preflight } from "./prefill/preflight.ts";
import { PrefillQueue, pagesReadSoFar } from "./prefill/queue.ts";
import { PrefillRates } from "./prefill/rateRecorder.ts";
import { OpenDocuments, read, titleOf } from "./prefill/readDocument.ts";
import { measureQuality } from "./quality/quality.ts";
import { chooseProfile, EngineRoom } from "./residentEngine.ts";
import { keepSample, keepText, removeCopy } from "./store/copies.ts";
import type { Library } from "./store/library.ts";
import { QueueRows } from "./store/queue.ts";

export interface Host {
  /** What a person should know of the opening of the library. */
  notices: readonly string[];
  requests: RequestHandlers;
  runs: RunHandlers;
  /** Files that a window may name. */
  windowFiles(): string[];
  /** Reads what waits in the queue; called when a window is there to show it. */
  startQueue(): void;
  /** Ends the reading of the queue at its next chunk; it goes on with the next host. */
  stopQueue(): Promise<void>;
  /** Frees the engine and closes the library. */
  close(): Promise<void>;
}

interface NamedDocument {
  path?: string | undefined;
  documentId?: string | undefined;
  pages?: string | undefined;
}

const logLinesKept = 200;

/** @param server is asked once the host serves */
export function createHost(
  library: Library,
  { dataDir, version, server }: { dataDir: string; version: string; server: () => HostServer },
): Host {
  const room = new EngineRoom(dataDir, (report, doing) =>
    announce({ kind: "memory", sample: timeline.add(report, doing) }),
  );
  const documents = new OpenDocuments();
  const pictures = new PagePictures();
  const timeline = new MemoryTimeline();
  const log: string[] = [];
  keepLog(log);
  const announce = (event: HostEvent) => server().announce(event);
  const changed = (what: Extract<HostEvent, { kind: "changed" }>["what"], id?: string) =>
    announce({ kind: "changed", what, ...(id === undefined ? {} : { id }) });

  const addDocument = async (path: string) => {
    const entry = await library.documents.add(path);
    changed("documents", entry.id);
    return entry;
  };

  /** Finds, parses and remembers a document, by path or by its name in the library. */
  const openDocument = async (
    { path: given, documentId, pages }: NamedDocument,
    sink: Pick<RunSink, "progress" | "notice" | "signal">,
  ): Promise<{ document: Document; path: string }> => {
    const path = given ?? (await library.documents.locate(documentId ?? ""));
    const document = await documents.open(path, pages, sink);
    if (documentId !== undefined && document.id !== documentId) {
      throw new ScholiaError(
        "document_not_found",
        `${document.name} was changed while it was opened. Add it again: it is another document now.`,
      );
    }
    return { document, path };
  };
  /** Opens a document and writes down what was found out of it. */
  const openAndNote: typeof openDocument = async (input, sink) => {
    const { document, path } = await openDocument(input, sink);
    await library.documents
      .opened({
        id: document.id,
        path,
        name: document.name,
        kind: document.kind,
        fileTitle: document.title ?? null,
        pages: document.wholePageCount,
      })
      .catch((error: Error) =>
        sink.notice(`The library could not be brought up to date: ${error.message}`),
      );
    return { document, path };
  };
  /** A document that a window looks at: nothing is written, and there is no run to report to. */
  const quietly = (input: NamedDocument) =>
    openDocument(input, {
      progress() {},
      notice() {},
      signal: new AbortController().signal,
    });

  const makeRoom = async (keep: string[]) => {
    const { diskLimitBytes } = library.settings.get();
    if (diskLimitBytes === null) return;
    for (const removed of await library.reads.makeRoom(diskLimitBytes, keep)) {
      announce({
        kind: "notice",
        message: `To keep within the disk limit, what was read of ${removed.documentTitle} (pages ${removed.pages}) was removed. It can be read again.`,
      });
    }
  };
  let known: { path: string; tensors: TensorSize[] | null } | null = null;
  /** Of the model that is open; its file does not change while it is. */
  const tensorsOf = async (path: string) => {
    if (known?.path !== path) known = { path, tensors: await ggufTensors(path).catch(() => null) };
    return known.tensors;
  };

  const queue = new PrefillQueue(
    new QueueRows(library.database),
    async (row, sink) => {
      const { document, path } = await openAndNote(
        { documentId: row.documentId, pages: row.pages ?? undefined },
        sink,
      );
      const rates = new PrefillRates();
      const listening = {
        ...sink,
        progress(progress: Parameters<RunSink["progress"]>[0]) {
          rates.progress(progress);
          sink.progress(progress);
        },
      };
      await room.use(row.engine, sink, async (resident) => {
        try {
          const input = { path, maxTokens: row.maxTokens };
          const report = await read(input, document, resident, documents, library, listening);
          await makeRoom([report.key]);
        } finally {
          const { name, fingerprint } = resident.engine.model;
          rates.record(library.rates, { name, fingerprint, device: resident.engine.device });
          changed("documents", row.documentId);
          changed("reads");
        }
      });
    },
    (items) => announce({ kind: "queue", items }),
  );

  const asker = new Asker({
    library,
    documents,
    room,
    openDocument: openAndNote,
    pagesReadSoFar(documentId) {
      const item = queue.unfinished(documentId);
      return item === undefined ? null : pagesReadSoFar(item);
    },
    onAsked: (turn) => {
      announce({ kind: "asked", ...turn });
      changed("chats", turn.chatId);
    },
    onAnswered: (chatId) => changed("chats", chatId),
  });

  const requests: RequestHandlers = {
    "host.hello": async () => ({ version, pid: process.pid }),
    "host.check": (settings) => checkMachine(settings, dataDir),
    "host.diagnostics": async () => {
      const settings = library.settings.get();
      const { reads, bytes } = await library.reads.store(null);
      return {
        text: diagnosticsText({
          version,
          settings,
          checks: await checksOf(dataDir, settings),
          counts: {
            documents: (await library.documents.list()).length,
            reads: reads.length,
            readBytes: bytes,
            chats: library.chats.list().length,
            queue: queue.list().length,
          },
          log,
        }),
      };
    },
    "models.list": () => listModels(),
    "models.remove": async ({ id }) => {
      findModel(id);
      if (isDownloaded(id)) await rm(modelPath(id));
      changed("models");
      return null;
    },
    "heads.list": async (settings) => {
      const { model, profile } = await profileOf(settings);
      return headTable(model, profile);
    },
    "heads.curves": async (settings) => {
      const { profile } = await profileOf(settings);
      if (profile.file === null) return null;
      const { errorByBlock, errors, uniform } = profile.file.measured;
      return {
        profile: profile.name,
        blockTokens: [...blockSizes],
        errorByBlock: errorByBlock.flat(),
        budgetTokens: errors?.budgetTokens ?? [],
        errorByBudget: errors?.table.flat() ?? [],
        uniform,
      };
    },

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
    "document.page": async ({ page, ...named }) => pageText((await quietly(named)).document, page),
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
      find((await quietly(named)).document, query, limit),

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

    "chat.open": async ({ path, documentId, pages, chatId }) => {
      const { chats } = library;
      if (chatId !== undefined) {
        return { chatId, turns: chats.path(chatId, chats.shown(chatId)) };
      }
      const created = chats.create({
        documentId: documentId ?? null,
        path: path ?? (await library.documents.get(documentId ?? "")).path,
        pages: pages ?? null,
      });
      changed("chats", created);
      return { chatId: created, turns: [] };
    },
    "chats.list": async (filter) => library.chats.list(filter),
    "chat.get": async ({ chatId }) => library.chats.get(chatId),
    "chat.rename": async ({ chatId, title }) => {
      library.chats.rename(chatId, title);
      return acted(() => changed("chats", chatId));
    },
    "chat.remove": async ({ chatId }) => {
      library.chats.remove(chatId);
      return acted(() => changed("chats", chatId));
    },
    "chat.show": async ({ chatId, turnId }) => {
      library.chats.show(chatId, turnId);
      return acted(() => changed("chats", chatId));
    },
    "chat.readMap": async ({ turnId }) => {
      const { bytes } = library.chats.readMap(turnId);
      const map = bytes === null ? null : decodeReadMap(bytes);
      if (map !== null) return map;
      throw new ScholiaError("not_found", "What the heads read for this answer was not kept.");
    },
    "chat.export": async ({ chatId, format }) => exportChat(library.chats.get(chatId), format),

    "memory.map": async () => {
      const held = await room.memory();
      const tensors = held === null ? null : await tensorsOf(held.engine.model.path);
      return memoryMap(held, tensors, timeline.list());
    },
    "memory.estimate": async (settings) => {
      const { model, profile } = await profileOf(settings);
      return memoryEstimate(model, profile, await room.memory());
    },
    "rates.list": async () => library.rates.list(),
    "settings.get": async () => library.settings.get(),
    "settings.set": async (changes) => {
      const settings = library.settings.set(given(changes));
      changed("settings");
      if (changes.diskLimitBytes !== undefined) {
        await makeRoom([]);
        changed("reads");
      }
      return settings;
    },
    "runs.list": async () => server().runs(),
  };

  // Documents are opened before the engine: what is wrong with a file is said at once.
  const runs: RunHandlers = {
    "document.open": async (input, sink) => {
      const { document } = await openAndNote(input, sink);
      const { title } = await library.documents.get(document.id).catch(() => ({
        title: titleOf(document),
      }));
      changed("documents", document.id);
      return detailOf(document, title);
    },

    "document.preflight": async (input, sink) => {
      const { document } = await openAndNote(input, sink);
      return queue.whileYielding(() =>
        room.use(input, sink, (resident) =>
          preflight(input, document, resident, documents, { rates: library.rates, dataDir }),
        ),
      );
    },

    "document.read": async (input, sink) => {
      const { document, path } = await openAndNote(input, sink);
      const named = { ...input, path };
      const report = await room.use(input, sink, (resident) =>
        read(named, document, resident, documents, library, sink),
      );
      await makeRoom([report.key]);
      return report;
    },

    "answer.ask": (input, sink) => queue.whileYielding(() => asker.ask(input, sink)),

    "heads.calibrate": (input, sink) =>
      room.use(input, sink, (resident) => calibrate(input, resident, documents, dataDir, sink)),

    "bench.run": (input, sink) =>
      room.use(input, sink, (resident) => bench(input, resident.engine, sink)),

    "timing.steps": (input, sink) => queue.whileYielding(() => asker.timeSteps(input, sink)),
    "quality.run": (input, sink) =>
      room.use(input, sink, ({ engine, profile }) =>
        measureQuality(input, engine, profile.file, documents, sink),
      ),

    "models.get": async ({ id }, sink) => {
      const { name } = findModel(id);
      let bytes = 0;
      const report = downloadProgress(name, (progress) => sink.progress(progress));
      const path = await fetchModel(id, {
        signal: sink.signal,
        onProgress: (progress) => {
          bytes = progress.totalBytes;
          report(progress);
        },
      });
      changed("models");
      return { id, path, bytes };
    },
  };

  const profileOf = async (settings: {
    model?: string | undefined;
    profile?: string | undefined;
  }) => {
    const { path } = await modelFile(settings.model, { fetch: false });
    const model = await probeModel(path);
    return {
      model,
      profile: await chooseProfile(settings.profile, model, dataDir, { notice() {} }),
    };
  };

  return {
    notices: library.notices,
    requests,
    runs,
    windowFiles: () => {
      const { model, profile } = library.settings.get();
      return [model, profile].filter((file) => file !== null);
    },
    startQueue: () => queue.start(),
    stopQueue: () => queue.close(),
    async close() {
      pictures.close();
      await room.close();
      library.close();
    },
  };
}

/** A request that only does something. */
function acted(work: () => void): null {
  work();
  return null;
}

/** The fields that were sent. */
function given(changes: RequestInput<"settings.set">) {
  return Object.fromEntries(
    Object.entries(changes).filter(([, value]) => value !== undefined),
  ) as Parameters<Library["settings"]["set"]>[0];
}

function checksOf(
  dataDir: string,
  { model, profile, device, threads }: ReturnType<Library["settings"]["get"]>,
): Promise<CheckLine[]> {
  return checkMachine(
    {
      device,
      threads,
      ...(model === null ? {} : { model }),
      ...(profile === null ? {} : { profile }),
    },
    dataDir,
  );
}

/** Warnings and errors also go to standard error, where a shell hears them. */
function keepLog(log: string[]): void {
  onEngineLog(({ level, text }: LogLine) => {
    log.push(`${level}: ${text}`);
    if (log.length > logLinesKept) log.shift();
    if (level === "warning" || level === "error") process.stderr.write(`${text}\n`);
  });
}
