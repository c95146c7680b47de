/** All that the window holds and can do, by subject. It is text, numbers and phases; traces and
 * pictures live beside it. The slices that do it lie beside this file. */
import type { Box, Citation, Mode } from "../../contract/answer.ts";
import type { Chat, ChatEntry, ContextShare, ReadMap } from "../../contract/chats.ts";
import type {
  DocumentDetail,
  DocumentEntry,
  FindResult,
  PageImage,
  PageText,
  Preflight,
  ReadStore,
} from "../../contract/documents.ts";
import type { ErrorValue, Result } from "../../contract/errors.ts";
import type { HeadCurves, HeadTable } from "../../contract/heads.ts";
import type {
  MeasuredRate,
  MemoryEstimate,
  MemoryMap,
  MemorySample,
} from "../../contract/memory.ts";
import type { QueueItem } from "../../contract/queue.ts";
import type { CheckLine, ModelLine } from "../../contract/routes.ts";
import type { Settings } from "../../contract/settings.ts";
import type {
  AddedDocuments,
  Shell,
  ShellCommand,
  ShellState,
  WindowContent,
} from "../../contract/shell.ts";
import type { Progress } from "../../contract/stream.ts";
import type { StepTimings } from "../../contract/timing.ts";
import type { Link } from "../api/link.ts";

export interface App
  extends SessionSlice,
    SettingsSlice,
    LibrarySlice,
    DocumentSlice,
    PreflightSlice,
    ChatSlice,
    ModelSlice,
    LensSlice,
    WindowSlice {}

/** What slices work with. */
export interface Slice {
  get: () => App;
  set: (change: Partial<App> | ((app: App) => Partial<App>)) => void;
  link: Link;
  shell: Shell;
  shows: WindowContent;
}

/** The host and the shell that this window talks to. */
export interface SessionSlice {
  /** `lost`: until someone asks to start again. */
  connection: "connecting" | "ready" | "lost";
  lostError: ErrorValue | null;
  shellState: ShellState | null;
  connect(): void;
  linkConnecting(): void;
  linkReady(): void;
  linkLost(error: ErrorValue, again: boolean): void;
  /** The host's last words, which the shell learns after the channel closed. */
  explainLoss(error: ErrorValue): void;
  openLink(url: string): void;
  openWindow(shows?: WindowContent): void;
  /** Offers a file to keep. */
  saveFile(name: string, content: string | Uint8Array<ArrayBuffer>): Promise<void>;
}

/** What the person has chosen; the host keeps it for all windows. */
export interface SettingsSlice {
  settings: Settings;
  /** False until the host has said them once: nothing is remembered before. */
  settingsKnown: boolean;
  refreshSettings(): Promise<void>;
  changeSettings(change: Partial<Settings>): Promise<void>;
  /** Keeps what this window should look like next time, e.g. the sizes of its panes. */
  remember(name: string, value: Settings["window"][string]): void;
}

/** Documents, what was read of them, and the queue of reads. */
export interface LibrarySlice {
  /** Null until the host has said them once. */
  documents: DocumentEntry[] | null;
  readStore: ReadStore | null;
  queue: QueueItem[];
  /** Files that are being taken in. */
  adding: number;
  refreshDocuments(): Promise<void>;
  refreshReads(): Promise<void>;
  refreshQueue(): Promise<void>;
  setQueue(items: QueueItem[]): void;
  chooseFiles(): Promise<void>;
  addFiles(files: File[]): Promise<void>;
  /** A pasted text becomes a document of its own. */
  addText(text: string): Promise<void>;
  /** Adds the sample document, opens it, and reads it if there is a model. */
  openSample(): Promise<void>;
  /** Shows the first of new documents and says which files were refused. */
  takeAdded(documents: AddedDocuments): void;
  renameDocument(documentId: string, title: string): Promise<void>;
  removeDocument(documentId: string): Promise<void>;
  locateDocument(documentId: string): Promise<void>;
  /** @param pages as `--pages` takes them; empty: all */
  startReading(documentId: string, pages: string): Promise<boolean>;
  changeQueue(action: QueueAction, id: string): Promise<void>;
  pinRead(key: string, pinned: boolean): Promise<void>;
  removeRead(key: string): Promise<void>;
}

export type QueueAction = "pause" | "resume" | "cancel" | "first";

/** The document in the middle: its pages, the place in view, what is marked and searched. */
export interface DocumentSlice {
  document: OpenDocument | null;
  /** The page at the top of the view, and how far down that page: 0 to 1. */
  place: Place;
  /** Where the view is to go; grows by one with each wish, so that the same place can be wished
   * for twice. */
  goal: (Place & { serial: number; boxes: readonly Box[] }) | null;
  mark: Mark | null;
  /** Width of a page over the width that fits. */
  zoom: number;
  find: FindState | null;
  outlineOpen: boolean;
  openDocument(documentId: string): Promise<void>;
  closeDocument(): void;
  /** The document of last time, or of before the host was lost. */
  reopenDocument(): void;
  setPlace(place: Place): void;
  goTo(page: number, within?: number): void;
  /** @param pages that its answer was asked of: its characters count in their text */
  showCitation(citation: Citation, pages: string | null): void;
  clearMark(): void;
  setZoom(zoom: number): void;
  toggleOutline(): void;
  openFind(): void;
  closeFind(): void;
  /** Text of a page of the open document. */
  requestPage(page: number): Promise<Result<PageText>>;
  /** Picture of a page of the open document, in pixels. */
  requestPicture(page: number, width: number): Promise<Result<PageImage>>;
  search(query: string): Promise<void>;
  /** @param step 1: the next one, -1: the one before */
  stepFound(step: number): void;
}

export interface OpenDocument {
  id: string;
  /** Null while it is being opened, or when that failed. */
  detail: DocumentDetail | null;
  progress: Progress | null;
  error: ErrorValue | null;
}

export type Place = {
  page: number;
  within: number;
};

/** Marked characters [start, end) of the document's text, with their boxes where it has a layout. */
export interface Mark {
  start: number;
  end: number;
  boxes: readonly Box[];
  page: number;
}

export interface FindState {
  query: string;
  result: FindResult | null;
  /** Index of the passage in view; -1: none. */
  at: number;
  busy: boolean;
  error: ErrorValue | null;
}

/** What reading the open document would take, before it is read. */
export interface PreflightSlice {
  preflight: PreflightState | null;
  /** Pages to read, as typed; empty: all. */
  pagesToRead: string;
  setPagesToRead(pages: string): void;
  countPreflight(): Promise<void>;
  forgetPreflight(): void;
}

export interface PreflightState {
  documentId: string;
  pages: string;
  progress: Progress | null;
  value: Preflight | null;
  error: ErrorValue | null;
}

/** Chats of the open document, and the answer that is being written. */
export interface ChatSlice {
  chats: ChatEntry[];
  /** Null: a new chat, which begins with its first question. */
  chat: Chat | null;
  writing: Writing | null;
  draft: string;
  /** Words of the document that the next question is about. */
  about: string | null;
  /** Why the last question could not be asked. */
  askError: ErrorValue | null;
  /** What stands in the context, as of the last question. */
  context: ContextShare | null;
  /** The answer that the maps show, and its sentence under the pointer. */
  focus: { turnId: string; sentence: number | null } | null;
  readMaps: Readonly<Record<string, ReadMap>>;
  openChatsOf(documentId: string): Promise<void>;
  refreshChats(chatId?: string): Promise<void>;
  openChat(chatId: string): Promise<void>;
  newChat(): void;
  closeChat(): void;
  /** Another window asked in this chat. */
  joinRun(chatId: string): void;
  setDraft(draft: string): void;
  askAbout(words: string | null): void;
  ask(question: string, options?: AskOptions): Promise<void>;
  stopAnswer(): void;
  showTurn(turnId: string): Promise<void>;
  renameChat(chatId: string, title: string): Promise<void>;
  removeChat(chatId: string): Promise<void>;
  exportChat(format: "markdown" | "json"): Promise<void>;
  /** Chats of all documents that hold these words. */
  findChats(query: string): Promise<ChatEntry[]>;
  focusOn(turnId: string | null, sentence?: number | null): void;
}

export interface AskOptions {
  /** The turn that the question follows; absent: the last one shown. */
  parentId?: string | null;
  mode?: Mode;
  budgetTokens?: number;
  temperature?: number;
  seed?: number;
}

/** An answer under way. */
export interface Writing {
  runId: string;
  /** Null until the host has named them. */
  chatId: string | null;
  turnId: string | null;
  parentId: string | null;
  question: string;
  mode: Mode;
  text: string;
  /** Tokens written so far, as far as this window has seen. */
  tokens: number;
  progress: Progress | null;
  notices: string[];
  stopping: boolean;
}

/** Models of the catalog, their downloads, and what is known of this machine. */
export interface ModelSlice {
  models: ModelLine[] | null;
  downloads: Readonly<Record<string, Download>>;
  checks: CheckLine[] | null;
  refreshModels(): Promise<void>;
  download(id: string): Promise<void>;
  /** What was fetched stays; the download can go on. */
  stopDownload(id: string): void;
  removeModel(id: string): Promise<void>;
  useModel(model: string): Promise<void>;
  chooseModelFile(): Promise<void>;
  check(): Promise<void>;
  diagnostics(): Promise<string | null>;
}

export interface Download {
  progress: Progress | null;
  error: ErrorValue | null;
}

/** What the machine does: heads, memory, timing, answers compared. */
export interface LensSlice {
  /** Whether this window is the lens and nothing else. */
  isLensWindow: boolean;
  lensOpen: boolean;
  lensFull: boolean;
  lensTab: LensTab;
  metric: HeadMetric;
  /** The head whose details are shown; null: none. */
  pinnedHead: number | null;
  /** Shows numbers in a table instead of the map. */
  asTable: boolean;
  heads: HeadTable | null;
  curves: HeadCurves | null;
  /** Which profile the map is compared with. */
  comparedProfile: ComparedProfile;
  /** The heads of that profile; null while the map stands alone. */
  otherHeads: HeadTable | null;
  headsError: ErrorValue | null;
  memory: MemoryMap | null;
  memoryError: ErrorValue | null;
  rates: MeasuredRate[] | null;
  /** What the model that is thought of would need. */
  estimate: MemoryEstimate | null;
  estimateError: ErrorValue | null;
  /** Where the time of a step goes; null until it was measured. */
  steps: StepTimings | null;
  stepsState: "idle" | "measuring";
  stepsError: ErrorValue | null;
  /** Two turns of the chat to stand side by side. */
  compared: { left: string; right: string } | null;
  toggleLens(): void;
  showLens(tab: LensTab): void;
  toggleLensFull(): void;
  /** Moves the lens out of the drawer into a window of its own. */
  detachLens(): void;
  setMetric(metric: HeadMetric): void;
  pinHead(head: number | null): void;
  toggleTable(): void;
  loadHeads(): Promise<void>;
  forgetHeads(): void;
  compareHeads(profile: ComparedProfile): Promise<void>;
  loadMemory(): Promise<void>;
  /** The engine says what it holds while it works. */
  takeMemory(sample: MemorySample): void;
  loadRates(): Promise<void>;
  /** Absent: as in the settings. */
  loadEstimate(choice: { model?: string; profile?: string }): Promise<void>;
  measureSteps(): Promise<void>;
  compare(left: string, right: string): void;
}

export const lensTabs = ["heads", "memory", "timing", "compare"] as const;

export type LensTab = (typeof lensTabs)[number];

/** "own": the profile that the model has by itself, when another was chosen. */
export const comparedProfiles = ["none", "uniform", "own"] as const;

export type ComparedProfile = (typeof comparedProfiles)[number];

export const headMetrics = [
  "blockTokens",
  "budgetShare",
  "outputError",
  "recall",
  "retrievalScore",
  "sensitivity",
  "influence",
  "errorSaved",
  "bytesRead",
  "blocksRead",
  "massKept",
] as const;

export type HeadMetric = (typeof headMetrics)[number];

/** What of the window is open, and what it has to say. */
export interface WindowSlice {
  sidebarOpen: boolean;
  /** Narrow windows show one pane at a time. */
  narrowPane: NarrowPane;
  paletteOpen: boolean;
  settingsTab: SettingsTab | null;
  shortcutsOpen: boolean;
  messages: Message[];
  /** A question before something that can't be undone. */
  confirmation: Confirmation | null;
  /** A document or chat that gets another name. */
  naming: Naming | null;
  toggleSidebar(): void;
  showPane(pane: NarrowPane): void;
  setPalette(open: boolean): void;
  openSettings(tab: SettingsTab | null): void;
  setShortcutsOpen(open: boolean): void;
  say(message: { text?: string; error?: ErrorValue }): void;
  dismiss(id: number): void;
  confirm(confirmation: Confirmation | null): void;
  askForName(naming: Naming | null): void;
  runCommand(id: CommandId): void;
}

export const narrowPanes = ["library", "document", "chat", "lens"] as const;

export type NarrowPane = (typeof narrowPanes)[number];

export const settingsTabs = [
  "answers",
  "models",
  "storage",
  "appearance",
  "shortcuts",
  "diagnostics",
] as const;

export type SettingsTab = (typeof settingsTabs)[number];

export interface Message {
  id: number;
  text: string | null;
  error: ErrorValue | null;
}

export interface Confirmation {
  title: string;
  text: string;
  action: string;
  run(): void;
}

export interface Naming {
  kind: "document" | "chat";
  id: string;
  name: string;
}

/** What a key, a menu or the palette can name. */
export type CommandId =
  | ShellCommand
  | "composer.focus"
  | "answer.stop"
  | "find.next"
  | "find.previous"
  | "zoom.in"
  | "zoom.out"
  | "zoom.fit"
  | "outline.toggle"
  | "document.read"
  | "lens.heads"
  | "lens.memory"
  | "lens.timing"
  | "lens.compare"
  | "theme.toggle"
  | "models.open"
  | "diagnostics.open"
  | "window.new";
