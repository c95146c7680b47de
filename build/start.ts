// `npm start [-- COMMAND …]`: sets up what is missing, then runs the command line.
import { join } from "node:path";
import { fetchDefaultModel } from "./models.ts";
import { root } from "./paths.ts";
import { fail } from "./report.js";
import { setUp } from "./setUp.ts";

/** Commands that answer from a model, and so need one to be here. */
const answering = ["ask", "chat", "read"];

/** Whether the command will look for the default model. */
export function needsDefaultModel([command = "chat", ...rest]: readonly string[]): boolean {
  const asksForHelp = rest.some((arg) => arg === "--help" || arg === "-h");
  const namesModel = rest.some((arg) => arg === "--model" || arg.startsWith("--model="));
  return answering.includes(command) && !asksForHelp && !namesModel;
}

async function start(args: readonly string[]): Promise<void> {
  await setUp();
  if (needsDefaultModel(args)) await fetchDefaultModel();
  const cli = join(root, "cli", "main.ts");
  process.argv.splice(1, process.argv.length, cli, ...(args.length > 0 ? args : ["chat"]));
  await import(cli);
}

if (process.argv[1] === import.meta.filename) await start(process.argv.slice(2)).catch(fail);
