/** What answers are made of: the parts of the host that handlers share. */
import type { HostEvent } from "../../contract/wire.ts";
import { Asker } from "../answer/askInLibrary.ts";
import type { HostServer, RunSink } from "../channel.ts";
import { PagePictures } from "../document/pdf/pagePictures.ts";
import { MemoryTimeline } from "../engine/memoryMap.ts";
import { PrefillQueue, pagesReadSoFar } from "../prefill/queue.ts";
import { PrefillRates } from "../prefill/rateRecorder.ts";
import { OpenDocuments, read } from "../prefill/readDocument.ts";
import { EngineRoom } from "../residentEngine.ts";
import type { Library } from "../store/library.ts";
import { QueueRows } from "../store/queue.ts";
import { Opening } from "./opening.ts";

export interface HostOptions {
  dataDir: string;
  version: string;
  /** Asked once the host serves. */
  server: () => HostServer;
}

export interface Parts extends HostOptions {
  library: Library;
  room: EngineRoom;
  documents: OpenDocuments;
  opening: Opening;
  pictures: PagePictures;
  timeline: MemoryTimeline;
  queue: PrefillQueue;
  asker: Asker;
  /** The engine's last lines. */
  log: string[];
  /** Tells all windows that a list, or one document or chat, is another now. */
  changed: Changed;
  /** Keeps what was read within the disk limit; the reads of these keys stay. */
  makeRoom(keep: string[]): Promise<void>;
}

type Changed = (what: Extract<HostEvent, { kind: "changed" }>["what"], id?: string) => void;

export function makeParts(library: Library, log: string[], options: HostOptions): Parts {
  const announce = (event: HostEvent) => options.server().announce(event);
  const changed: Changed = (what, id) =>
    announce({ kind: "changed", what, ...(id === undefined ? {} : { id }) });
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
  const timeline = new MemoryTimeline();
  const documents = new OpenDocuments();
  const opening = new Opening(library, documents);
  const room = new EngineRoom(options.dataDir, (report, doing) =>
    announce({ kind: "memory", sample: timeline.add(report, doing) }),
  );
  const queue = new PrefillQueue(
    new QueueRows(library.database),
    async (row, sink) => {
      const { document, path } = await opening.noted(
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
    openDocument: (input, sink) => opening.noted(input, sink),
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

  const pictures = new PagePictures();
  return {
    ...options,
    library,
    room,
    documents,
    opening,
    pictures,
    timeline,
    queue,
    asker,
    log,
    changed,
    makeRoom,
  };
}

/** A request that only does something. */
export function acted(work: () => void): null {
  work();
  return null;
}
