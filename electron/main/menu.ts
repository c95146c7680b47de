/** The native menu. Commands go to the window, which knows what they mean there. */
import { app, Menu, type MenuItemConstructorOptions } from "electron";
import type { ShellCommand } from "../../contract/shell.ts";

export function setMenu(
  onCommand: (command: ShellCommand) => void,
  onOpen: () => void,
  onNewWindow: () => void,
): void {
  const item = (
    label: string,
    accelerator: string,
    command: ShellCommand,
  ): MenuItemConstructorOptions => ({
    label,
    accelerator,
    // The window has these shortcuts itself, and lets people change them.
    registerAccelerator: false,
    click: () => onCommand(command),
  });
  const file: MenuItemConstructorOptions[] = [
    {
      label: "Open Document…",
      accelerator: "CmdOrCtrl+O",
      registerAccelerator: false,
      click: onOpen,
    },
    item("New Chat", "CmdOrCtrl+N", "chat.new"),
    item("Export Chat…", "CmdOrCtrl+Shift+E", "chat.export"),
    { label: "New Window", accelerator: "CmdOrCtrl+Shift+N", click: onNewWindow },
    { type: "separator" },
    item("Settings", "CmdOrCtrl+,", "settings.open"),
    { type: "separator" },
    { role: process.platform === "darwin" ? "close" : "quit" },
  ];
  const view: MenuItemConstructorOptions[] = [
    item("Search", "CmdOrCtrl+K", "palette.open"),
    item("Find in Document", "CmdOrCtrl+F", "document.find"),
    { type: "separator" },
    item("Library", "CmdOrCtrl+B", "sidebar.toggle"),
    item("Lens", "CmdOrCtrl+Shift+V", "lens.toggle"),
    { type: "separator" },
    { role: "resetZoom" },
    { role: "zoomIn" },
    { role: "zoomOut" },
    { role: "togglefullscreen" },
    ...(app.isPackaged ? [] : [{ role: "toggleDevTools" as const }]),
  ];
  const help: MenuItemConstructorOptions[] = [
    item("Shortcuts", "CmdOrCtrl+/", "shortcuts.open"),
    { label: "About Scholia", click: () => onCommand("about.open") },
  ];
  Menu.setApplicationMenu(
    Menu.buildFromTemplate([
      ...(process.platform === "darwin" ? [{ role: "appMenu" as const }] : []),
      { label: "&File", submenu: file },
      { role: "editMenu" },
      { label: "&View", submenu: view },
      { label: "&Help", submenu: help },
    ]),
  );
}
