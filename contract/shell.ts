/** What a window asks of its shell, beside the host's routes: what needs the desktop, or the loopback
 * server. In Electron the preload script carries it to the main process; in a browser it is done by
 * the page itself and the server. */
import { z } from "zod";
import type { DocumentEntry } from "./documents.ts";
import type { ErrorValue, Result } from "./errors.ts";
import { themes } from "./settings.ts";
import type { Port } from "./wire.ts";

/** A file path from a drop; only the preload script can name one. */
const pathSchema = z.string().min(1).max(4096);

export const windowContents = ["all", "lens"] as const;
export type WindowContent = (typeof windowContents)[number];

/** What of the window's address says that it shows the lens alone. */
export const lensHash = "#lens";

export const shellInputs = {
  "shell.state": z.strictObject({}),
  /** The native dialog; the chosen files enter the library. */
  "documents.choose": z.strictObject({}),
  /** Dropped files enter the library. */
  "documents.drop": z.strictObject({ paths: z.array(pathSchema).min(1).max(1000) }),
  /** The file of this document was moved: a dialog asks for its place. */
  "documents.locate": z.strictObject({ documentId: z.string().regex(/^[0-9a-f]{64}$/) }),
  "models.choose": z.strictObject({}),
  "file.save": z.strictObject({
    name: z.string().min(1).max(255),
    content: z.union([z.string(), z.instanceof(Uint8Array)]),
  }),
  /** http and https only; opens outside. */
  "link.open": z.strictObject({ url: z.url().max(4096) }),
  "host.restart": z.strictObject({}),
  /** Electron only: the main process answers with a port that bears this name. */
  "host.connect": z.strictObject({ name: z.string().min(1).max(64) }),
  /** `lens`: a window that shows the lens alone and follows what is asked in the others. */
  "window.open": z.strictObject({ shows: z.enum(windowContents) }),
  "theme.set": z.strictObject({ theme: z.enum(themes) }),
} as const;

export type ShellAction = keyof typeof shellInputs;
export type ShellInput<A extends ShellAction> = z.input<(typeof shellInputs)[A]>;
export type ShellParsed<A extends ShellAction> = z.output<(typeof shellInputs)[A]>;

export interface ShellOutputs {
  "shell.state": ShellState;
  "documents.choose": AddedDocuments;
  "documents.drop": AddedDocuments;
  "documents.locate": DocumentEntry | null;
  /** What to set as `Settings.model`; null: the dialog was closed. */
  "models.choose": string | null;
  /** Where it was saved; null: the dialog was closed, or a browser saves it where it likes. */
  "file.save": string | null;
  "link.open": null;
  "host.restart": null;
  "host.connect": null;
  "window.open": null;
  "theme.set": null;
}

export interface ShellState {
  kind: "desktop" | "browser";
  version: string;
  /** As Node names it, e.g. "linux"; shortcuts are shown accordingly. */
  platform: string;
  host: HostState;
}

export type HostState =
  | { state: "starting" }
  | { state: "running"; pid: number }
  /** It died; the message holds its last lines. `host.restart` or a new `connect` starts it again. */
  | { state: "exited"; error: ErrorValue };

export interface AddedDocuments {
  added: DocumentEntry[];
  /** Files that are no documents, and why. */
  refused: { name: string; error: ErrorValue }[];
}

/** What a shell says unasked. */
export type ShellEvent =
  | { kind: "host"; host: HostState }
  /** A menu item or a shortcut of the desktop, e.g. "document.open". */
  | { kind: "command"; command: ShellCommand }
  /** Documents that were opened from outside: a file association, the dock, another instance. */
  | { kind: "opened"; documents: AddedDocuments };

export const shellCommands = [
  "document.open",
  "chat.new",
  "chat.export",
  "palette.open",
  "document.find",
  "settings.open",
  "shortcuts.open",
  "sidebar.toggle",
  "lens.toggle",
  "about.open",
] as const;
export type ShellCommand = (typeof shellCommands)[number];

/** A window's shell, whichever it is: `renderer/shell/` has one for Electron and one for browsers. */
export interface Shell {
  readonly kind: "desktop" | "browser";
  /** A fresh channel to the host, which is started if it does not run. Channels close when the host
   * goes: what was saved is kept, and a new one leads to the next host. */
  connect(): Promise<Result<Port>>;
  call<A extends ShellAction>(action: A, input: ShellInput<A>): Promise<Result<ShellOutputs[A]>>;
  /** Files from a drop or an input of the page enter the library. */
  addFiles(files: DroppedFile[]): Promise<Result<AddedDocuments>>;
  /** @returns a function that ends the listening */
  onEvent(listener: (event: ShellEvent) => void): () => void;
}

/** A browser's File, as far as a shell needs it. */
export interface DroppedFile {
  readonly name: string;
  readonly size: number;
}

/** What the preload script puts into the window, as `scholia`: two functions, no channel names. */
export interface DesktopBridge {
  /** @param input of "documents.drop": the dropped Files, whose paths only the preload can have */
  call(action: string, input: unknown): Promise<Result<unknown>>;
  subscribe(listener: (event: ShellEvent) => void): () => void;
}

/** The message that hands the window its port to the host (`window.postMessage`, with the port). */
export interface PortMessage {
  kind: "scholia-port";
  name: string;
}

/** The loopback server's addresses, below its root. */
export const webPaths = {
  /** WebSocket: {@link file://./codec.ts} */
  host: "host",
  /** GET: {@link ShellState}. */
  state: "shell/state",
  /** POST. */
  restart: "shell/restart",
  /** POST: the file's bytes; `?name=`. Answers with a Result of {@link AddedDocuments}. */
  documents: "shell/documents",
} as const;

/** The WebSocket's close codes. */
export const closeCodes = {
  /** The host ended; ask for the state. */
  hostGone: 4001,
  /** A frame that was too large or no message. */
  refused: 4002,
} as const;
