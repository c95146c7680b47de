// Opens engines, forgets them, and counts the engine threads that the collector leaves.
import { readdirSync, readFileSync } from "node:fs";
import { libraryDir, loadAddon } from "../../../host/engine/addon.ts";

const modelPath = process.argv[2] ?? "";
const addon = loadAddon();
addon.initialise(libraryDir());

const engineThreads = () =>
  readdirSync("/proc/self/task").filter((task) => {
    try {
      return readFileSync(`/proc/self/task/${task}/comm`, "utf8").startsWith("scholia-engine");
    } catch {
      return false; // it has just ended
    }
  }).length;

for (let i = 0; i < 3; i++) {
  const engine = new addon.Engine();
  await engine.open({ modelPath, threads: 1 }).promise;
  if (engineThreads() !== 1) throw new Error(`${engineThreads()} engine threads after opening`);
  await collected();
}
new addon.Engine(); // one that was never opened
await collected();
console.log(`engine threads left: ${engineThreads()}`);

async function collected() {
  for (let i = 0; i < 50; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    globalThis.gc?.();
    if (engineThreads() === 0) return;
  }
}
