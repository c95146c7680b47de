/** The command line: `node cli/main.ts ask FILE "QUESTION"`. */
import { runCommandLine } from "./program.ts";
import { exitCodes } from "./shell.ts";
import { processTerminal } from "./terminal.ts";

// A reader that has seen enough (head, less) closes the pipe: that is no error of ours.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(exitCodes.ok);
  throw error;
});
process.exitCode = await runCommandLine(process.argv.slice(2), processTerminal());
