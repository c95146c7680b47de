import { t } from "../strings/index.ts";
import { saidError } from "./saidError.ts";
import type { SessionSlice, Slice } from "./state.ts";

export function createSessionSlice({ get, set, link, shell }: Slice): SessionSlice {
  const refresh = async () => {
    const app = get();
    const state = await shell.call("shell.state", {});
    if (state.ok) set({ shellState: state.value });
    await app.refreshSettings();
    await Promise.all([
      app.refreshDocuments(),
      app.refreshReads(),
      app.refreshQueue(),
      app.refreshModels(),
    ]);
    app.reopenDocument();
  };
  return {
    connection: "connecting",
    lostError: null,
    shellState: null,
    connect: () => void link.connect(),
    linkConnecting: () => set({ connection: "connecting" }),
    linkReady() {
      set({ connection: "ready", lostError: null, headsError: null, memoryError: null });
      void refresh();
    },
    linkLost(error, again) {
      set({ connection: again ? "connecting" : "lost", lostError: error });
      if (again) get().say({ text: t("session.restarted"), error });
    },
    explainLoss(error) {
      if (get().connection === "lost") set({ lostError: error });
    },
    openLink: (url) => void shell.call("link.open", { url }),
    async saveFile(name, content) {
      const saved = await shell.call("file.save", { name, content });
      if (!saved.ok) saidError(get(), saved.error);
      else if (saved.value !== null) get().say({ text: t("saved", { path: saved.value }) });
    },
    openWindow: (shows = "all") => void shell.call("window.open", { shows }),
  };
}
