import type { ErrorValue } from "../../contract/errors.ts";
import { commands } from "../commands.ts";
import type { Message, Slice, WindowSlice } from "./state.ts";

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
