// The desktop app from its sources: Electron with the bundled window, and the host in this Node. Where
// there is no screen or no Electron, the browser shell takes its place and says why.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { setUpElectronApp } from "./electronApp.ts";
import { bringElectron } from "./electronDist.ts";
import { electronAppDist, root } from "./paths.ts";
import { setUpRenderer } from "./renderer.ts";
import { say } from "./report.js";

/** @returns the words of the command that takes the app's place; null when it has run
 * @param files documents to open */
export async function openDesktop(files: readonly string[]): Promise<string[] | null> {
  await setUpRenderer();
  const electron = hasScreen() ? bringElectron() : undefined;
  if (electron === undefined) {
    const reason = hasScreen() ? "no Electron could be fetched" : "there is no screen here";
    say(`The window opens in a browser, for ${reason}.`);
    return ["serve", "--open"];
  }
  await setUpElectronApp();
  process.exitCode = await runElectron(electron, files);
  return null;
}

const hasScreen = (): boolean =>
  process.platform !== "linux" || Boolean(process.env.DISPLAY || process.env.WAYLAND_DISPLAY);

function runElectron(electron: string, files: readonly string[]): Promise<number> {
  const isRoot = process.getuid?.() === 0;
  if (isRoot) say("As root Electron runs without the system's sandbox.");
  const args = [...(isRoot ? ["--no-sandbox"] : []), join(electronAppDist, "main.cjs"), ...files];
  const child = spawn(electron, args, {
    stdio: "inherit",
    env: {
      ...process.env,
      SCHOLIA_HOST_NODE: process.execPath,
      SCHOLIA_HOST_ENTRY: join(root, "host", "main.ts"),
    },
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => resolve(code ?? 1));
  });
}
