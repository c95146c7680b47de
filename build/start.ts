// `npm start [-- COMMAND …]`: sets up what is missing, then runs the command line. The command `desktop`
// is no word of it: it opens the window.
import { join } from "node:path";
import { fetchDefaultModel } from "./models.ts";
import { root } from "./paths.ts";
import { fail } from "./report.js";
import { setUp } from "./setUp.ts";

async function start(given: readonly string[]): Promise<void> {
  await setUp();
  let args = given;
  if (args[0] === "desktop") {
    // What it imports is there only after the set-up.
    const { openDesktop } = await import("./desktop.ts");
    const instead = await openDesktop(args.slice(1));
    if (instead === null) return;
    args = instead;
  }
  if (args[0] === "serve") {
    const { setUpRenderer } = await import("./renderer.ts");
    await setUpRenderer();
  }
  // A command fetches the model it needs by itself, when it has found nothing else wrong.
  if (args.length === 0) await fetchDefaultModel();
  const cli = join(root, "cli", "main.ts");
  process.argv.splice(1, process.argv.length, cli, ...(args.length > 0 ? args : ["chat"]));
  await import(cli);
}

await start(process.argv.slice(2)).catch(fail);
