// `npm start`: sets up what is missing, then opens the window. `npm start -- FILES` opens it with these
// documents; any other words are a command line.
import { statSync } from "node:fs";
import { join } from "node:path";
import { root } from "./paths.ts";
import { fail } from "./report.js";
import { setUp } from "./setUp.ts";

async function start(words: readonly string[]): Promise<void> {
  await setUp();
  const command = words.every(isFile) ? await openWindow(words) : words;
  if (command !== null) await runCommand(command);
}

function isFile(word: string): boolean {
  return statSync(word, { throwIfNoEntry: false })?.isFile() === true;
}

/** @returns the command that takes the window's place; null when there was a window */
async function openWindow(files: readonly string[]): Promise<readonly string[] | null> {
  // What it imports is there only after the set-up.
  const { openDesktop } = await import("./desktop.ts");
  return openDesktop(files);
}

/** A command fetches the model it needs by itself, when it has found nothing else wrong. */
async function runCommand(words: readonly string[]): Promise<void> {
  if (words[0] === "serve") {
    const { setUpRenderer } = await import("./renderer.ts");
    await setUpRenderer();
  }
  const cli = join(root, "cli", "main.ts");
  process.argv.splice(1, process.argv.length, cli, ...words);
  await import(cli);
}

await start(process.argv.slice(2)).catch(fail);
