/** What no page may do, ours included: ask for permissions, lead elsewhere, open windows, embed other
 * contents, reach the network. */
import { app, type Session, shell } from "electron";
import { isOwn, outsideLink } from "./origin.ts";

export const webPreferences = {
  sandbox: true,
  contextIsolation: true,
  nodeIntegration: false,
  nodeIntegrationInWorker: false,
  nodeIntegrationInSubFrames: false,
  webSecurity: true,
  webviewTag: false,
  spellcheck: false,
} as const;

export function secureSession(session: Session): void {
  // With a language, Electron fetches its dictionary even where no page checks spelling.
  session.setSpellCheckerLanguages([]);
  session.setPermissionRequestHandler((_contents, _permission, answer) => answer(false));
  session.setPermissionCheckHandler(() => false);
  session.setDevicePermissionHandler(() => false);
  session.webRequest.onBeforeRequest(({ url }, answer) => answer({ cancel: !isLocal(url) }));
  session.on("will-download", (event, item) => {
    // The window saves what it made itself (`file.save` is the other way); nothing else comes.
    if (!item.getURL().startsWith("blob:")) event.preventDefault();
  });
}

function isLocal(url: string): boolean {
  return isOwn(url) || url.startsWith("blob:") || url.startsWith("devtools:");
}

export function secureContents(): void {
  app.on("web-contents-created", (_event, contents) => {
    contents.on("will-navigate", (event, url) => {
      if (!isOwn(url)) event.preventDefault();
    });
    contents.on("will-redirect", (event) => event.preventDefault());
    contents.on("will-attach-webview", (event) => event.preventDefault());
    contents.setWindowOpenHandler(({ url }) => {
      const link = outsideLink(url);
      if (link !== null) void shell.openExternal(link);
      return { action: "deny" };
    });
  });
}
