import { PanelBottom, PanelLeft, Search, Settings as SettingsIcon } from "lucide-react";
import { type ComponentType, useEffect, useState } from "react";
import { Group, Panel, Separator } from "react-resizable-panels";
import styles from "./app.module.css";
import { commandOf, commands, keysOf, type Shortcuts } from "./commands.ts";
import { ChatPane } from "./features/chat/ChatPane.tsx";
import { DocumentPane } from "./features/document/DocumentPane.tsx";
import { DropTarget, LibraryPane } from "./features/library/LibraryPane.tsx";
import { Palette } from "./features/palette/Palette.tsx";
import { type AppStore, useApp, useAppStore } from "./store/app.ts";
import { modelInUse } from "./store/models.ts";
import { type NarrowPane, narrowPanes } from "./store/state.ts";
import { t } from "./strings/index.ts";
import { Button, IconButton } from "./ui/Button.tsx";
import { ConfirmDialog, NamingDialog, ShortcutsDialog } from "./ui/dialogs.tsx";
import { ErrorNote } from "./ui/ErrorNote.tsx";
import { Keys } from "./ui/Keys.tsx";
import { later } from "./ui/later.tsx";
import { Messages } from "./ui/Messages.tsx";
import { Remedies } from "./ui/Remedies.tsx";

const Lens = later(async () => (await import("./features/lens/Lens.tsx")).Lens);
const SettingsDialog = later(
  async () => (await import("./features/settings/SettingsDialog.tsx")).SettingsDialog,
);

/** Narrower windows show one pane at a time. */
const narrowBelow = 860;

export function App() {
  const store = useAppStore();
  const isNarrow = useNarrow();
  useKeys(store);
  useTheme();
  useTextSize();
  const isDropping = useDrop(store);
  const isFull = useApp((app) => app.lensFull && app.lensOpen);
  const isKnown = useApp((app) => app.settingsKnown);
  const isSetting = useApp((app) => app.settingsTab !== null);
  return (
    <div className={styles.app}>
      <TopBar isNarrow={isNarrow} />
      <LostNote />
      <main className={styles.main}>
        {isFull ? <Lens /> : isNarrow ? <OnePane /> : isKnown && <Panes />}
      </main>
      {isNarrow && <PaneTabs />}
      {isDropping && <DropTarget />}
      <Palette />
      {isSetting && <SettingsDialog />}
      <ShortcutsDialog />
      <NamingDialog />
      <ConfirmDialog />
      <Messages />
    </div>
  );
}

function TopBar({ isNarrow }: { isNarrow: boolean }) {
  const store = useAppStore();
  const sidebarOpen = useApp((app) => app.sidebarOpen);
  const lensOpen = useApp((app) => app.lensOpen);
  const { toggleSidebar, toggleLens, setPalette, openSettings } = store.getState();
  return (
    <header className={styles.bar}>
      {!isNarrow && (
        <IconButton
          label={t("commands.sidebar.toggle")}
          keys="Ctrl+B"
          icon={<PanelLeft size={17} />}
          aria-pressed={sidebarOpen}
          onClick={toggleSidebar}
        />
      )}
      <DocumentName />
      <ModelName />
      <button type="button" className={styles.search} onClick={() => setPalette(true)}>
        <Search size={14} aria-hidden />
        <span>{t("palette.open")}</span>
        {!isNarrow && <Keys keys="Ctrl+K" />}
      </button>
      {!isNarrow && (
        <IconButton
          label={t("commands.lens.toggle")}
          keys="Ctrl+Shift+V"
          icon={<PanelBottom size={17} />}
          aria-pressed={lensOpen}
          onClick={toggleLens}
        />
      )}
      <IconButton
        label={t("commands.settings.open")}
        keys="Ctrl+,"
        icon={<SettingsIcon size={17} />}
        onClick={() => openSettings("answers")}
      />
    </header>
  );
}

function DocumentName() {
  const entry = useApp((app) => app.documents?.find(({ id }) => id === app.document?.id) ?? null);
  const title = entry?.title ?? t("app");
  useEffect(() => {
    document.title = entry === null ? t("app") : `${entry.title} – ${t("app")}`;
  }, [entry]);
  return <h1 className={styles.title}>{title}</h1>;
}

function ModelName() {
  const models = useApp((app) => app.models);
  const chosen = useApp((app) => app.settings.model);
  const open = useApp((app) => app.openSettings);
  const model = modelInUse(models, chosen);
  const name = model?.name ?? chosen?.split(/[/\\]/).at(-1) ?? t("models.none");
  return (
    <button
      type="button"
      className={styles.model}
      aria-label={t("models.change", { name })}
      onClick={() => open("models")}
    >
      {name}
    </button>
  );
}

/** The host is gone and does not come back by itself. */
function LostNote() {
  const connection = useApp((app) => app.connection);
  const error = useApp((app) => app.lostError);
  if (connection !== "lost" || error === null) return null;
  return (
    <div className={styles.lost}>
      <ErrorNote error={error}>
        <Remedies error={error} />
      </ErrorNote>
    </div>
  );
}

type Sizes = Record<string, number>;

/** All panes of a wide window; their sizes are remembered. */
function Panes() {
  const store = useAppStore();
  const sidebarOpen = useApp((app) => app.sidebarOpen);
  const lensOpen = useApp((app) => app.lensOpen);
  const hasDocument = useApp((app) => app.document !== null);
  const { settings, remember } = store.getState();
  const columns = settings.window.columns as Sizes | undefined;
  const rows = settings.window.rows as Sizes | undefined;
  return (
    <Group
      orientation="vertical"
      className={styles.group}
      onLayoutChanged={(layout) => remember("rows", { ...rows, ...layout })}
    >
      <Panel id="panes" minSize="30%">
        <Group
          orientation="horizontal"
          onLayoutChanged={(layout) => remember("columns", { ...columns, ...layout })}
        >
          {sidebarOpen && (
            <>
              <Panel
                id="library"
                defaultSize={sizeOf(columns?.library, "18%")}
                minSize="150px"
                maxSize="40%"
              >
                <LibraryPane />
              </Panel>
              <Separator className={styles.splitter} aria-label={t("splitter")} />
            </>
          )}
          <Panel id="document" minSize="260px">
            <DocumentPane />
          </Panel>
          {hasDocument && (
            <>
              <Separator className={styles.splitter} aria-label={t("splitter")} />
              <Panel id="chat" defaultSize={sizeOf(columns?.chat, "40%")} minSize="300px">
                <ChatPane />
              </Panel>
            </>
          )}
        </Group>
      </Panel>
      {lensOpen && (
        <>
          <Separator className={styles.splitterFlat} aria-label={t("splitter")} />
          <Panel id="lens" defaultSize={sizeOf(rows?.lens, "38%")} minSize="120px">
            <Lens />
          </Panel>
        </>
      )}
    </Group>
  );
}

const sizeOf = (remembered: number | undefined, usual: string): string =>
  remembered === undefined ? usual : `${remembered}%`;

const panes: Record<NarrowPane, ComponentType> = {
  library: LibraryPane,
  document: DocumentPane,
  chat: ChatPane,
  lens: Lens,
};

function OnePane() {
  const pane = useApp((app) => app.narrowPane);
  const hasDocument = useApp((app) => app.document !== null);
  const isEmpty = useApp((app) => app.documents?.length === 0);
  const Shown = panes[!hasDocument && (pane === "chat" || isEmpty) ? "document" : pane];
  return <Shown />;
}

function PaneTabs() {
  const pane = useApp((app) => app.narrowPane);
  const show = useApp((app) => app.showPane);
  return (
    <nav className={styles.tabs} aria-label={t("panes.title")}>
      {narrowPanes.map((name) => (
        <Button
          key={name}
          kind="quiet"
          aria-current={name === pane ? "page" : undefined}
          onClick={() => show(name)}
        >
          {t(`panes.${name}`)}
        </Button>
      ))}
    </nav>
  );
}

function useNarrow(): boolean {
  const [isNarrow, setNarrow] = useState(() => window.innerWidth < narrowBelow);
  useEffect(() => {
    const query = window.matchMedia(`(max-width: ${narrowBelow - 1}px)`);
    const note = () => setNarrow(query.matches);
    query.addEventListener("change", note);
    return () => query.removeEventListener("change", note);
  }, []);
  return isNarrow;
}

function useTheme(): void {
  const theme = useApp((app) => app.settings.theme);
  useEffect(() => {
    const query = window.matchMedia("(prefers-color-scheme: dark)");
    const show = () => {
      const isDark = theme === "dark" || (theme === "system" && query.matches);
      document.documentElement.dataset.theme = isDark ? "dark" : "light";
    };
    show();
    query.addEventListener("change", show);
    return () => query.removeEventListener("change", show);
  }, [theme]);
}

function useTextSize(): void {
  const textSize = useApp((app) => app.settings.textSize);
  useEffect(() => {
    document.documentElement.dataset.text = textSize;
  }, [textSize]);
}

function useKeys(store: AppStore): void {
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      const keys = keysOf(event);
      const app = store.getState();
      const own = (app.settings.window.shortcuts ?? {}) as Shortcuts;
      const id = keys === null ? null : commandOf(keys, own);
      if (id === null || event.defaultPrevented) return;
      // A dialog has its own Escape, and what is behind it is not to be reached.
      if (document.querySelector("dialog[open]") !== null) return;
      if (!(commands[id].isPossible?.(app) ?? true)) return;
      event.preventDefault();
      commands[id].run(app);
    };
    window.addEventListener("keydown", press);
    return () => window.removeEventListener("keydown", press);
  }, [store]);
}

/** Files that are dropped anywhere enter the library.
 * @returns whether files are held over the window */
function useDrop(store: AppStore): boolean {
  const [isOver, setOver] = useState(false);
  useEffect(() => {
    const holdsFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    const over = (event: DragEvent) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      setOver(true);
    };
    const leave = (event: DragEvent) => {
      if (event.relatedTarget === null) setOver(false);
    };
    const drop = (event: DragEvent) => {
      event.preventDefault();
      setOver(false);
      const files = [...(event.dataTransfer?.files ?? [])];
      if (files.length > 0) void store.getState().addFiles(files);
    };
    window.addEventListener("dragover", over);
    window.addEventListener("dragleave", leave);
    window.addEventListener("drop", drop);
    return () => {
      window.removeEventListener("dragover", over);
      window.removeEventListener("dragleave", leave);
      window.removeEventListener("drop", drop);
    };
  }, [store]);
  return isOver;
}
