import type { Box } from "../../contract/answer.ts";
import type { DocumentDetail, FoundPassage } from "../../contract/documents.ts";
import type { Settings } from "../../contract/settings.ts";
import { placeInDocument } from "./pages.ts";
import type { DocumentSlice, FindState, OpenDocument, Place, Slice } from "./state.ts";

// A type, since interfaces are no JSON values to TypeScript.
const emptyFind: FindState = { query: "", result: null, at: -1, busy: false, error: null };
const zooms = { least: 0.25, most: 4 };

export function createDocumentSlice({ get, set, link }: Slice): DocumentSlice {
  const open = async (documentId: string) => {
    const run = link.open("document.open", { documentId });
    const isShown = () => get().document?.id === documentId;
    for await (const frame of run) {
      if (!isShown()) return run.stop();
      if (frame.kind === "progress") update({ progress: frame.progress });
    }
    const result = await run.result();
    if (!isShown()) return;
    if (result.ok) update({ detail: result.value, progress: null });
    else update({ error: result.error, progress: null });
  };
  const update = (change: Partial<OpenDocument>) =>
    set(({ document }) => (document === null ? {} : { document: { ...document, ...change } }));
  const goTo = (place: Place, boxes: readonly Box[] = []) =>
    set(({ goal }) => ({ goal: { ...place, boxes, serial: (goal?.serial ?? 0) + 1 } }));

  return {
    document: null,
    place: { page: 1, within: 0 },
    goal: null,
    mark: null,
    zoom: 1,
    find: null,
    outlineOpen: false,
    async openDocument(documentId) {
      if (get().document?.id === documentId && get().document?.error === null) {
        return set({ narrowPane: "document" });
      }
      const place = placesOf(get().settings)[documentId] ?? { page: 1, within: 0 };
      set({
        document: { id: documentId, detail: null, progress: null, error: null },
        place,
        mark: null,
        find: null,
        outlineOpen: false,
        narrowPane: "document",
      });
      goTo(place);
      get().remember("document", documentId);
      void get().openChatsOf(documentId);
      get().forgetPreflight();
      await open(documentId);
    },
    closeDocument() {
      set({ document: null, mark: null, find: null });
      get().remember("document", null);
      get().closeChat();
      get().forgetPreflight();
    },
    reopenDocument() {
      const { document, documents, settings } = get();
      if (document !== null) {
        void get().openChatsOf(document.id);
        if (document.detail === null) {
          update({ error: null });
          void open(document.id);
        }
        return;
      }
      const last = settings.window.document;
      if (documents?.some(({ id }) => id === last)) void get().openDocument(last as string);
    },
    setPlace(place) {
      set({ place });
      const { document, settings } = get();
      if (document === null) return;
      get().remember("places", { ...lastPlaces(settings, document.id), [document.id]: place });
    },
    goTo: (page, within = 0) => goTo({ page, within }),
    showCitation({ page, start, end, boxes }, pages) {
      const detail = get().document?.detail ?? null;
      if (start === null || end === null) return;
      // While the document is being opened, the page and its boxes are enough.
      const from = detail === null ? start : placeInDocument(detail, pages, start);
      const at = page ?? (from === null ? null : pageOfCharacter(detail, from));
      if (at === null || from === null) return;
      set({
        mark: { start: from, end: from + end - start, boxes, page: at },
        narrowPane: "document",
      });
      goTo({ page: at, within: 0 }, boxes);
    },
    clearMark: () => set({ mark: null }),
    setZoom: (zoom) => set({ zoom: Math.min(zooms.most, Math.max(zooms.least, zoom)) }),
    toggleOutline: () => set(({ outlineOpen }) => ({ outlineOpen: !outlineOpen })),
    openFind: () => set(({ find }) => ({ find: find ?? emptyFind, narrowPane: "document" })),
    closeFind: () => set({ find: null }),
    requestPage: (page) =>
      link.request("document.page", { documentId: get().document?.id ?? "", page }),
    requestPicture: (page, width) =>
      link.request("document.picture", { documentId: get().document?.id ?? "", page, width }),
    async search(query) {
      const { document } = get();
      if (document === null) return;
      const isLatest = () => get().find?.query === query;
      if (query.trim() === "") return set({ find: { ...emptyFind, query } });
      set({ find: { ...(get().find ?? emptyFind), query, busy: true, error: null } });
      const result = await link.request("document.find", { documentId: document.id, query });
      if (!isLatest()) return;
      if (!result.ok) return set({ find: { ...emptyFind, query, error: result.error } });
      const at = firstFrom(result.value.passages, get().place.page);
      set({ find: { query, result: result.value, at, busy: false, error: null } });
      const passage = result.value.passages[at];
      if (passage !== undefined) goTo({ page: passage.page, within: 0 }, passage.boxes);
    },
    stepFound(step) {
      const { find } = get();
      const passages = find?.result?.passages ?? [];
      if (find === null || passages.length === 0) return;
      const at = (find.at + step + passages.length) % passages.length;
      set({ find: { ...find, at } });
      goTo({ page: passages[at]!.page, within: 0 }, passages[at]!.boxes);
    },
  };
}

/** The first passage on this page or after it, else the first of all. */
function firstFrom(passages: readonly FoundPassage[], page: number): number {
  if (passages.length === 0) return -1;
  return Math.max(
    0,
    passages.findIndex((passage) => passage.page >= page),
  );
}

export function pageOfCharacter(detail: DocumentDetail | null, at: number): number | null {
  return detail?.pages.find(({ start, end }) => at >= start && at < end)?.number ?? null;
}

const keptPlaces = 100;

const placesOf = (settings: Settings): Record<string, Place> =>
  (settings.window.places ?? {}) as unknown as Record<string, Place>;

/** The last hundred places, without the one that is to be written anew. */
function lastPlaces(settings: Settings, without: string): Record<string, Place> {
  const others = Object.entries(placesOf(settings)).filter(([id]) => id !== without);
  return Object.fromEntries(others.slice(-keptPlaces));
}
