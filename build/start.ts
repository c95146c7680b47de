// `npm start [-- COMMAND …]`: sets up what is missing, then runs the command line.
import { join } from "node:path";
import { fetchDefaultModel } from "./models.ts";
import { root } from "./paths.ts";
import { fail } from "./report.js";
import { setUp } from "./setUp.ts";

async function start(args: readonly string[]): Promise<void> {
  await setUp();
  if (args[0] === "serve") {
    // What it imports is there only after the set-up.
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
