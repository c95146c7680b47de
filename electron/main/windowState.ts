/** Where the window was and its theme: kept as a small file; the place is used only if it is still on a
 * screen. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { app, type BrowserWindow, nativeTheme, type Rectangle, screen } from "electron";
import { type Theme, themes } from "../../contract/settings.ts";

interface WindowState {
  bounds: Rectangle;
  isMaximized: boolean;
  theme: Theme;
}

const smallest = { width: 480, height: 360 };
const first = { width: 1360, height: 880 };
const path = () => join(app.getPath("userData"), "window.json");

export function rememberedWindow(): { options: Partial<Rectangle>; isMaximized: boolean } {
  const state = readState();
  if (state === null || !isOnScreen(state.bounds)) return { options: first, isMaximized: false };
  return { options: state.bounds, isMaximized: state.isMaximized };
}

export function rememberedTheme(): Theme {
  return readState()?.theme ?? "system";
}

export function rememberWindow(window: BrowserWindow): void {
  window.on("close", () => {
    const state: WindowState = {
      bounds: window.getNormalBounds(),
      isMaximized: window.isMaximized(),
      theme: nativeTheme.themeSource,
    };
    try {
      writeFileSync(path(), JSON.stringify(state));
    } catch {
      // The next window opens at its first size: nothing of worth is lost.
    }
  });
}

function readState(): WindowState | null {
  try {
    const { bounds, isMaximized, theme } = JSON.parse(readFileSync(path(), "utf8")) as WindowState;
    const numbers = [bounds.x, bounds.y, bounds.width, bounds.height];
    if (!numbers.every(Number.isInteger)) return null;
    if (bounds.width < smallest.width || bounds.height < smallest.height) return null;
    return {
      bounds,
      isMaximized: isMaximized === true,
      theme: themes.includes(theme) ? theme : "system",
    };
  } catch {
    return null;
  }
}

/** A screen may have been taken away since. */
function isOnScreen({ x, y, width, height }: Rectangle): boolean {
  const { workArea } = screen.getDisplayMatching({ x, y, width, height });
  const shared = (a: number, la: number, b: number, lb: number) =>
    Math.min(a + la, b + lb) - Math.max(a, b);
  const wide = shared(x, width, workArea.x, workArea.width);
  const high = shared(y, height, workArea.y, workArea.height);
  return wide >= smallest.width / 2 && high >= smallest.height / 2;
}
