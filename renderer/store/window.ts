import type { ErrorValue } from "../../contract/errors.ts";
import { type CommandId, commands } from "../commands.ts";
import type { Slice } from "./app.ts";

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

/** Older messages make room: the newest ones matter. */
const messagesAtMost = 4;

export function createWindowSlice({ get, set }: Slice): WindowSlice {
  let nextId = 1;
  return {
    sidebarOpen: true,
    narrowPane: "library",
    paletteOpen: false,
    settingsTab: null,
    shortcutsOpen: false,
    messages: [],
    confirmation: null,
    naming: null,
    toggleSidebar: () => set(({ sidebarOpen }) => ({ sidebarOpen: !sidebarOpen })),
    showPane(narrowPane) {
      set({ narrowPane });
      if (narrowPane === "lens") set({ lensOpen: true });
    },
    setPalette: (paletteOpen) => set({ paletteOpen }),
    openSettings: (settingsTab) => set({ settingsTab }),
    setShortcutsOpen: (shortcutsOpen) => set({ shortcutsOpen }),
    say({ text = null, error = null }: { text?: string | null; error?: ErrorValue | null }) {
      const message = { id: nextId++, text, error };
      const same = (old: Message) => old.text === text && old.error?.message === error?.message;
      set(({ messages }) => ({
        messages: [...messages.filter((old) => !same(old)), message].slice(-messagesAtMost),
      }));
    },
    dismiss: (id) => set(({ messages }) => ({ messages: messages.filter((m) => m.id !== id) })),
    confirm: (confirmation) => set({ confirmation }),
    askForName: (naming) => set({ naming }),
    runCommand: (id) => commands[id].run(get()),
  };
}
