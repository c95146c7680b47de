/** The window's state: one store of slices. It holds text, numbers and phases; traces and pictures
 * live beside it. */
import { createContext, useContext } from "react";
import { createStore, type StoreApi, useStore } from "zustand";
import type { Shell, ShellEvent, WindowContent } from "../../contract/shell.ts";
import type { Changing, HostEvent } from "../../contract/wire.ts";
import { createLink } from "../api/link.ts";
import { createChatSlice } from "./chat.ts";
import { createDocumentSlice } from "./document.ts";
import { createLensSlice } from "./lens.ts";
import { createLibrarySlice } from "./library.ts";
import { createModelSlice } from "./models.ts";
import { createPreflightSlice } from "./preflight.ts";
import { createSessionSlice } from "./session.ts";
import { createSettingsSlice } from "./settings.ts";
import type { App, Slice } from "./state.ts";
import { createWindowSlice } from "./window.ts";

export type AppStore = StoreApi<App>;

export function createApp(shell: Shell, shows: WindowContent = "all"): AppStore {
  const store = createStore<App>()((set, get) => {
    const link = createLink(shell, {
      onConnecting: () => get().linkConnecting(),
      onReady: () => get().linkReady(),
      onLost: (error, again) => get().linkLost(error, again),
      onEvent: (event) => onHostEvent(get(), event),
    });
    const slice: Slice = { get, set, link, shell, shows };
    return {
      ...createSessionSlice(slice),
      ...createSettingsSlice(slice),
      ...createLibrarySlice(slice),
      ...createDocumentSlice(slice),
      ...createPreflightSlice(slice),
      ...createChatSlice(slice),
      ...createModelSlice(slice),
      ...createLensSlice(slice),
      ...createWindowSlice(slice),
    };
  });
  shell.onEvent((event) => onShellEvent(store.getState(), event));
  return store;
}

function onHostEvent(app: App, event: HostEvent): void {
  switch (event.kind) {
    case "queue":
      app.setQueue(event.items);
      break;
    case "memory":
      app.takeMemory(event.sample);
      break;
    case "asked":
      app.joinRun(event.chatId);
      break;
    case "notice":
      app.say({ text: event.message });
      break;
    case "changed":
      void onChanged(app, event.what, event.id);
      break;
    case "exiting":
      app.say({ error: event.error });
      break;
    case "ready":
      break;
  }
}

/** Asks again for the list that is another now. */
function onChanged(app: App, what: Changing, id?: string): Promise<unknown> {
  switch (what) {
    case "documents":
      return app.refreshDocuments();
    case "reads":
      return Promise.all([app.refreshReads(), app.refreshDocuments()]);
    case "chats":
      return app.refreshChats(id);
    case "models":
      return app.refreshModels();
    case "settings":
      return app.refreshSettings();
  }
}

function onShellEvent(app: App, event: ShellEvent): void {
  switch (event.kind) {
    case "command":
      app.runCommand(event.command);
      break;
    case "opened":
      app.takeAdded(event.documents);
      break;
    case "host":
      if (event.host.state === "exited") app.explainLoss(event.host.error);
      break;
  }
}

const AppContext = createContext<AppStore | null>(null);
export const AppProvider = AppContext.Provider;

export function useAppStore(): AppStore {
  const store = useContext(AppContext);
  if (store === null) throw new Error("a component stands outside of the window's store");
  return store;
}

/** A part of the state; the component renders again when it changes. */
export function useApp<Part>(select: (app: App) => Part): Part {
  return useStore(useAppStore(), select);
}
