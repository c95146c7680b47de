// The desktop app from its sources: Electron with the bundled window, and the host in this Node. Where
// there is no screen or no Electron, something else takes its place and says why.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { setUpElectronApp } from "./electronApp.ts";
import { bringElectron } from "./electronDist.ts";
import { electronAppDist, root } from "./paths.ts";
import { setUpRenderer } from "./renderer.ts";
import { say } from "./report.js";

/** Opens the app and waits for its end. The window itself fetches a model where there is none.
 * @returns the words of the command that takes the app's place; null when it has run
 * @param files documents to open */
export async function openDesktop(files: readonly string[]): Promise<string[] | null> {
  const electron = hasScreen() ? bringElectron() : undefined;
  if (electron === undefined) return insteadOfWindow(files);
  await setUpRenderer();
  await setUpElectronApp();
  process.exitCode = await runElectron(electron, files);
  return null;
}

const hasScreen = (): boolean =>
  process.platform !== "linux" || Boolean(process.env.DISPLAY || process.env.WAYLAND_DISPLAY);

/** Only a person gives documents to a browser, so with documents it is a chat in the terminal. */
function insteadOfWindow(files: readonly string[]): string[] {
  const reason = hasScreen() ? "no Electron could be fetched" : "there is no screen here";
  if (files.length > 0) {
    say(`The chat is in this terminal, for ${reason}.`);
    return ["chat", ...files];
  }
  say(`The window opens in a browser, for ${reason}.`);
  return ["serve", "--open"];
}

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
  // Ctrl+C reaches the app too, which saves what it does before it ends.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => resolve(code ?? 1));
  });
}
