import { defaultSettings } from "../../contract/settings.ts";
import { saidError } from "./saidError.ts";
import type { SettingsSlice, Slice } from "./state.ts";

/** Dragging a pane changes its size many times a second. */
const rememberAfterMs = 600;

export function createSettingsSlice({ get, set, link, shell }: Slice): SettingsSlice {
  let pending: ReturnType<typeof setTimeout> | null = null;
  return {
    settings: defaultSettings,
    settingsKnown: false,
    async refreshSettings() {
      const result = await link.request("settings.get", {});
      if (result.ok) set({ settings: result.value, settingsKnown: true });
      else saidError(get(), result.error);
    },
    async changeSettings(change) {
      const before = get().settings;
      set({ settings: { ...before, ...change } });
      if (change.theme !== undefined) void shell.call("theme.set", { theme: change.theme });
      const result = await link.request("settings.set", change);
      if (result.ok) return set({ settings: result.value });
      set({ settings: before });
      saidError(get(), result.error);
    },
    remember(name, value) {
      if (!get().settingsKnown) return;
      const { settings } = get();
      set({ settings: { ...settings, window: { ...settings.window, [name]: value } } });
      if (pending !== null) clearTimeout(pending);
      pending = setTimeout(() => {
        pending = null;
        void link.request("settings.set", { window: get().settings.window });
      }, rememberAfterMs);
    },
  };
}
