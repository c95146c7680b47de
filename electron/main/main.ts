/** The desktop app's main process: windows, dialogs, menus, security, and the host's keeper. It does no
 * document or model work. */
import { mkdirSync, statSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import {
  app,
  BrowserWindow,
  dialog,
  type IpcMainInvokeEvent,
  ipcMain,
  nativeTheme,
  session,
  shell,
} from "electron";
import { type Result, ScholiaError, toErrorValue } from "../../contract/errors.ts";
import {
  type AddedDocuments,
  lensHash,
  type ShellAction,
  type ShellEvent,
  type ShellOutputs,
  type ShellParsed,
  shellInputs,
  type WindowContent,
} from "../../contract/shell.ts";
import { documentTypes } from "../../host/document/documentTypes.ts";
import { HostKeeper } from "../../host/keeper.ts";
import { dataDir } from "../../host/store/dataDir.ts";
import { registerScheme, serveWindow } from "./appFiles.ts";
import { type DesktopHost, startNodeHost, startUtilityHost } from "./hostProcess.ts";
import { setMenu } from "./menu.ts";
import { isOwn, origin, outsideLink } from "./origin.ts";
import { secureContents, secureSession, webPreferences } from "./security.ts";
import { rememberedTheme, rememberedWindow, rememberWindow } from "./windowState.ts";

type Handlers = {
  [A in ShellAction]: (
    input: ShellParsed<A>,
    window: BrowserWindow,
  ) => Promise<ShellOutputs[A]> | ShellOutputs[A];
};

/** Put in when the app is bundled. */
declare const scholiaVersion: string;

function main(): void {
  app.setName("Scholia");
  if (!app.requestSingleInstanceLock()) {
    app.quit();
    return;
  }
  registerScheme();
  secureContents();
  const keeper = keepHost();
  const opened = new OpenedFiles(keeper);
  // macOS hands files over so; elsewhere they are arguments.
  app.on("open-file", (event, path) => {
    event.preventDefault();
    opened.open([path]);
  });
  app.on("second-instance", (_event, argv, workingDirectory) => {
    showWindow();
    opened.open(filesOf(argv, workingDirectory));
  });
  app.on("window-all-closed", () => {
    if (process.platform !== "darwin") app.quit();
  });
  app.on("activate", () => showWindow());
  let isClosed = false;
  app.on("will-quit", (event) => {
    if (isClosed) return;
    // The host saves what it does before the app is gone.
    event.preventDefault();
    void keeper.close().finally(() => {
      isClosed = true;
      app.quit();
    });
  });
  void app.whenReady().then(() => {
    secureSession(session.defaultSession);
    serveWindow(session.defaultSession, join(__dirname, "..", "renderer"));
    handleCalls(handlersOf(keeper));
    setMenu(
      sendCommand,
      () => sendCommand("document.open"),
      () => openWindow(),
    );
    // The host and the window start side by side.
    void applyTheme(keeper);
    opened.open(filesOf(process.argv, process.cwd()));
    openWindow();
  });
}

function keepHost(): HostKeeper<DesktopHost> {
  const data = dataDir(undefined);
  mkdirSync(data, { recursive: true });
  const options = {
    dataDir: data,
    entry: join(__dirname, "..", "host", "main.cjs"),
    onLog: (line: string) => {
      if (!app.isPackaged) process.stderr.write(`| ${line}\n`);
    },
  };
  // In development the host runs from its sources; a packaged app takes no orders from outside.
  const { SCHOLIA_HOST_NODE: node, SCHOLIA_HOST_ENTRY: entry = options.entry } = app.isPackaged
    ? {}
    : process.env;
  return new HostKeeper(
    () =>
      node === undefined
        ? startUtilityHost({ ...options, entry })
        : startNodeHost(node, entry, options),
    (host) => send({ kind: "host", host }),
  );
}

// Windows

function openWindow(shows: WindowContent = "all"): void {
  const { options, isMaximized } = rememberedWindow();
  const window = new BrowserWindow({
    ...options,
    minWidth: 480,
    minHeight: 360,
    show: false,
    backgroundColor: nativeTheme.shouldUseDarkColors ? "#191715" : "#faf6ef",
    title: "Scholia",
    webPreferences: { ...webPreferences, preload: join(__dirname, "preload.cjs") },
  });
  if (isMaximized) window.maximize();
  rememberWindow(window);
  window.once("ready-to-show", () => window.show());
  void window.loadURL(`${origin}/${shows === "lens" ? lensHash : ""}`);
}

function showWindow(): void {
  const [window] = BrowserWindow.getAllWindows();
  if (window === undefined) {
    if (app.isReady()) openWindow();
    return;
  }
  if (window.isMinimized()) window.restore();
  window.focus();
}

function send(event: ShellEvent): void {
  for (const window of BrowserWindow.getAllWindows()) {
    window.webContents.send("scholia-event", event);
  }
}

function sendCommand(command: Extract<ShellEvent, { kind: "command" }>["command"]): void {
  const window = BrowserWindow.getFocusedWindow() ?? BrowserWindow.getAllWindows()[0];
  window?.webContents.send("scholia-event", { kind: "command", command } satisfies ShellEvent);
}

// Calls of the window

function handleCalls(handlers: Handlers): void {
  ipcMain.handle(
    "scholia-call",
    async (event, action: unknown, input: unknown): Promise<Result<unknown>> => {
      try {
        const window = senderWindow(event);
        if (typeof action !== "string" || !Object.hasOwn(shellInputs, action)) {
          throw new ScholiaError("invalid_argument", "There is no such action.");
        }
        const known = action as ShellAction;
        const parsed = shellInputs[known].safeParse(input);
        if (!parsed.success) {
          throw new ScholiaError(
            "invalid_argument",
            `${known}: ${parsed.error.issues[0]?.message}`,
          );
        }
        // The parsed input belongs to the action, which the types of a table can't say.
        const handler = handlers[known] as (input: unknown, window: BrowserWindow) => unknown;
        return { ok: true, value: await handler(parsed.data, window) };
      } catch (error) {
        return { ok: false, error: toErrorValue(error) };
      }
    },
  );
}

/** @throws ScholiaError `not_allowed` unless the call comes from the top frame of a window of ours. */
function senderWindow(event: IpcMainInvokeEvent): BrowserWindow {
  const window = BrowserWindow.fromWebContents(event.sender);
  const frame = event.senderFrame;
  const isTop = frame !== null && frame === event.sender.mainFrame;
  if (window === null || !isTop || !isOwn(frame.url)) {
    throw new ScholiaError("not_allowed", "Only Scholia's own window may ask.");
  }
  return window;
}

function handlersOf(keeper: HostKeeper<DesktopHost>): Handlers {
  return {
    "shell.state": () => ({
      kind: "desktop",
      version: scholiaVersion,
      platform: process.platform,
      host: keeper.state,
    }),
    "documents.choose": async (_input, window) => {
      const { filePaths } = await dialog.showOpenDialog(window, {
        title: "Open documents",
        properties: ["openFile", "multiSelections"],
        filters: [
          { name: "Documents", extensions: documentTypes.flatMap(({ extensions }) => extensions) },
          { name: "All files", extensions: ["*"] },
        ],
      });
      return addDocuments(keeper, filePaths);
    },
    "documents.drop": ({ paths }) => addDocuments(keeper, paths),
    "documents.locate": async ({ documentId }, window) => {
      const { filePaths } = await dialog.showOpenDialog(window, {
        title: "Where is the document now?",
        properties: ["openFile"],
      });
      const { added, refused } = await addDocuments(keeper, filePaths);
      const [failure] = refused;
      if (failure !== undefined) throw new ScholiaError(failure.error.code, failure.error.message);
      return added.find(({ id }) => id === documentId) ?? null;
    },
    "models.choose": async (_input, window) => {
      const { filePaths } = await dialog.showOpenDialog(window, {
        title: "Choose a model",
        properties: ["openFile"],
        filters: [{ name: "GGUF models", extensions: ["gguf"] }],
      });
      const [model] = filePaths;
      if (model === undefined) return null;
      const reply = await keeper.running().client.request("settings.set", { model });
      if (!reply.ok) throw new ScholiaError(reply.error.code, reply.error.message);
      return model;
    },
    "file.save": async ({ name, content }, window) => {
      const { filePath } = await dialog.showSaveDialog(window, { defaultPath: name });
      if (!filePath) return null;
      await writeFile(filePath, content);
      return filePath;
    },
    "link.open": async ({ url }) => {
      const link = outsideLink(url);
      if (link === null) throw new ScholiaError("not_allowed", "Only web addresses are opened.");
      await shell.openExternal(link);
      return null;
    },
    "host.restart": async () => {
      await keeper.restart();
      return null;
    },
    "host.connect": ({ name }, window) => {
      const port = keeper.running().openPort();
      window.webContents.postMessage("scholia-port", name, [port]);
      return null;
    },
    "window.open": ({ shows }) => {
      openWindow(shows);
      return null;
    },
    "theme.set": ({ theme }) => {
      nativeTheme.themeSource = theme;
      return null;
    },
  };
}

/** The last window's theme, until the host says which was set since, in a browser perhaps. */
async function applyTheme(keeper: HostKeeper<DesktopHost>): Promise<void> {
  nativeTheme.themeSource = rememberedTheme();
  const settings = await keeper.running().client.request("settings.get", {});
  // Without the host the window itself says what is wrong.
  if (settings.ok) nativeTheme.themeSource = settings.value.theme;
}

// Documents from dialogs, drops and other programs

async function addDocuments(
  keeper: HostKeeper<DesktopHost>,
  paths: string[],
): Promise<AddedDocuments> {
  const all: AddedDocuments = { added: [], refused: [] };
  for (const path of paths) {
    const reply = await keeper.running().client.request("documents.add", { path });
    if (reply.ok) all.added.push(reply.value);
    else all.refused.push({ name: path.split(/[/\\]/).at(-1) ?? path, error: reply.error });
  }
  return all;
}

/** Files that other programs hand over; those that come before the first window wait for it. */
class OpenedFiles {
  private readonly keeper: HostKeeper<DesktopHost>;

  constructor(keeper: HostKeeper<DesktopHost>) {
    this.keeper = keeper;
  }

  open(paths: string[]): void {
    if (paths.length === 0) return;
    void addDocuments(this.keeper, paths).then((documents) => {
      const event: ShellEvent = { kind: "opened", documents };
      const [window] = BrowserWindow.getAllWindows();
      if (window === undefined) {
        app.once("browser-window-created", (_event, created) => whenLoaded(created, event));
      } else {
        whenLoaded(window, event);
      }
    });
  }
}

function whenLoaded({ webContents }: BrowserWindow, event: ShellEvent): void {
  const tell = () => webContents.send("scholia-event", event);
  if (webContents.getURL() !== "" && !webContents.isLoading()) tell();
  else webContents.once("did-finish-load", tell);
}

/** The files among a command line's words, whatever they are called: the host says what is no document.
 * Without a package this script is one of the words. */
function filesOf(argv: string[], workingDirectory: string): string[] {
  return argv
    .slice(1)
    .filter((word) => !word.startsWith("-"))
    .map((word) => resolve(workingDirectory, word))
    .filter((path) => path !== __filename)
    .filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile() === true);
}

main();
