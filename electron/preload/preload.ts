/** The window's door to the main process: two functions and no channel names. It runs sandboxed, so it
 * is one CommonJS file that requires nothing but electron. */
import { contextBridge, ipcRenderer, webUtils } from "electron";
import type { DesktopBridge, PortMessage, ShellEvent } from "../../contract/shell.ts";

const bridge: DesktopBridge = {
  call: (action, input) =>
    ipcRenderer.invoke("scholia-call", action, action === "documents.drop" ? paths(input) : input),
  subscribe(listener) {
    const onEvent = (_event: unknown, event: ShellEvent) => listener(event);
    ipcRenderer.on("scholia-event", onEvent);
    return () => void ipcRenderer.off("scholia-event", onEvent);
  },
};
contextBridge.exposeInMainWorld("scholia", bridge);

// A port can't go through the bridge: it is posted to the window, which knows it by its name.
ipcRenderer.on("scholia-port", (event, name: string) => {
  const message: PortMessage = { kind: "scholia-port", name };
  window.postMessage(message, window.location.origin, [...event.ports] as MessagePort[]);
});

/** Only here can the path of a dropped file be known: the page has no way to name another. */
function paths(files: unknown): { paths: string[] } {
  const all = Array.isArray(files) ? files : [];
  return { paths: all.filter((file) => file instanceof File).map(pathOf) };
}

function pathOf(file: File): string {
  // Electron before 29 has no webUtils; File has a path there.
  if (webUtils !== undefined) return webUtils.getPathForFile(file);
  return (file as File & { path?: string }).path ?? "";
}
