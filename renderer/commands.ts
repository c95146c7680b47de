import type { App, CommandId } from "./store/state.ts";

export interface Command {
  run(app: App): void;
  /** As {@link keysOf} names them; null: none by default. */
  keys: string | null;
  /** Whether it can be done now; absent: always. */
  isPossible?(app: App): boolean;
}

const hasDocument = (app: App): boolean => app.document?.detail != null;

export const commands: Record<CommandId, Command> = {
  "document.open": { keys: "Ctrl+O", run: (app) => void app.chooseFiles() },
  "chat.new": { keys: "Ctrl+N", run: (app) => app.newChat(), isPossible: hasDocument },
  "palette.open": { keys: "Ctrl+K", run: (app) => app.setPalette(true) },
  "document.find": { keys: "Ctrl+F", run: (app) => app.openFind(), isPossible: hasDocument },
  "find.next": { keys: "F3", run: (app) => app.stepFound(1), isPossible: (app) => !!app.find },
  "find.previous": {
    keys: "Shift+F3",
    run: (app) => app.stepFound(-1),
    isPossible: (app) => !!app.find,
  },
  "settings.open": { keys: "Ctrl+,", run: (app) => app.openSettings("answers") },
  "shortcuts.open": { keys: "Ctrl+/", run: (app) => app.setShortcutsOpen(true) },
  "answer.stop": {
    keys: "Escape",
    run: (app) => app.stopAnswer(),
    isPossible: (app) => app.writing !== null,
  },
  "composer.focus": {
    keys: "Shift+Escape",
    run: () => document.querySelector<HTMLElement>("#composer")?.focus(),
    isPossible: hasDocument,
  },
  "sidebar.toggle": { keys: "Ctrl+B", run: (app) => app.toggleSidebar() },
  "lens.toggle": { keys: "Ctrl+Shift+V", run: (app) => app.toggleLens() },
  "lens.heads": { keys: "Ctrl+Shift+1", run: (app) => app.showLens("heads") },
  "lens.memory": { keys: "Ctrl+Shift+2", run: (app) => app.showLens("memory") },
  "lens.timing": { keys: "Ctrl+Shift+3", run: (app) => app.showLens("timing") },
  "lens.compare": { keys: "Ctrl+Shift+4", run: (app) => app.showLens("compare") },
  "zoom.in": { keys: "Ctrl+=", run: (app) => app.setZoom(app.zoom * 1.2), isPossible: hasDocument },
  "zoom.out": {
    keys: "Ctrl+-",
    run: (app) => app.setZoom(app.zoom / 1.2),
    isPossible: hasDocument,
  },
  "zoom.fit": { keys: "Ctrl+0", run: (app) => app.setZoom(1), isPossible: hasDocument },
  "outline.toggle": {
    keys: "Ctrl+Shift+O",
    run: (app) => app.toggleOutline(),
    isPossible: (app) => (app.document?.detail?.outline.length ?? 0) > 0,
  },
  "document.read": {
    keys: null,
    run: (app) => void app.countPreflight(),
    isPossible: hasDocument,
  },
  "chat.export": {
    keys: "Ctrl+Shift+E",
    run: (app) => void app.exportChat("markdown"),
    isPossible: (app) => app.chat !== null,
  },
  "theme.toggle": {
    keys: null,
    run: (app) => {
      const isDark = document.documentElement.dataset.theme === "dark";
      void app.changeSettings({ theme: isDark ? "light" : "dark" });
    },
  },
  "models.open": { keys: "Ctrl+L", run: (app) => app.openSettings("models") },
  "diagnostics.open": { keys: null, run: (app) => app.openSettings("diagnostics") },
  "window.new": { keys: "Ctrl+Shift+N", run: (app) => app.openWindow() },
  "about.open": { keys: null, run: (app) => app.openSettings("diagnostics") },
};

export const commandIds = Object.keys(commands) as CommandId[];

/** The keys that were pressed, e.g. "Ctrl+Shift+V"; null for a modifier alone. On a Mac, Command
 * counts as Ctrl. */
export function keysOf(event: KeyboardEvent): string | null {
  if (["Control", "Shift", "Alt", "Meta"].includes(event.key)) return null;
  const parts: string[] = [];
  if (event.ctrlKey || event.metaKey) parts.push("Ctrl");
  if (event.altKey) parts.push("Alt");
  if (event.shiftKey) parts.push("Shift");
  parts.push(keyName(event));
  return parts.join("+");
}

/** The digit keys by their place, since Shift turns them into other signs; all else by its sign. */
function keyName({ key, code }: KeyboardEvent): string {
  if (/^Digit\d$/.test(code)) return code.slice(5);
  if (key === "+") return "=";
  return key.length === 1 ? key.toUpperCase() : key;
}

export type Shortcuts = Readonly<Partial<Record<CommandId, string | null>>>;

/** The keys of a command: the person's own, else the default. */
export const shortcutOf = (id: CommandId, own: Shortcuts): string | null =>
  own[id] === undefined ? commands[id].keys : own[id];

export const commandOf = (keys: string, own: Shortcuts): CommandId | null =>
  commandIds.find((id) => shortcutOf(id, own) === keys) ?? null;
