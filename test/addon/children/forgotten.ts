// Opens engines, forgets them, and counts the engine threads that the collector leaves.
import { readdirSync, readFileSync } from "node:fs";
import { libraryDir, loadAddon } from "../../../host/engine/addon.ts";

const modelPath = process.argv[2] ?? "";
const addon = loadAddon();
addon.initialise(libraryDir());

/** The engines' own threads and those that they start, which take over the name. */
const engineThreads = () =>
  readdirSync("/proc/self/task").filter((task) => {
    try {
      return readFileSync(`/proc/self/task/${task}/comm`, "utf8").startsWith("scholia-engine");
    } catch {
      return false; // it has just ended
    }
  }).length;

async function openAndForget() {
  const engine = new addon.Engine();
  await engine.open({ modelPath, threads: 1 }).promise;
  if (engineThreads() === 0) throw new Error("no engine thread after opening");
}

/** One that never opened a model; its thread answers, so it is there. */
async function makeAndForget() {
  await new addon.Engine().memory().promise.catch(() => {});
  if (engineThreads() === 0) throw new Error("no engine thread");
}

for (const forget of [openAndForget, openAndForget, makeAndForget]) {
  await forget();
  await collected();
}
console.log(`engine threads left: ${engineThreads()}`);

async function collected() {
  for (let i = 0; i < 50; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    globalThis.gc?.();
    if (engineThreads() === 0) return;
  }
}
