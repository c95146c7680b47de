import type { DesktopBridge, Shell } from "../../contract/shell.ts";
import { browserShell } from "./browser.ts";
import { desktopShell } from "./desktop.ts";

declare global {
  interface Window {
    /** Put there by Electron's preload script; absent in a browser. */
    readonly scholia?: DesktopBridge;
  }
}

/** What this window asks of the desktop or the loopback server. */
export const shell: Shell =
  window.scholia === undefined ? browserShell() : desktopShell(window.scholia);
