/** Commands and options of the command line. */
import { existsSync, readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { modes } from "../contract/answer.ts";
import { allocations, digestKinds, objectives } from "../contract/heads.ts";
import { equalities, qualityParts, taskNames } from "../contract/quality.ts";
import { ask } from "./commands/ask.ts";
import { type BenchOptions, bench } from "./commands/bench.ts";
import { type CalibrateOptions, calibrate } from "./commands/calibrate.ts";
import { chat } from "./commands/chat.ts";
import { doctor } from "./commands/doctor.ts";
import { type HeadsOptions, heads } from "./commands/heads.ts";
import { getModel, listModels } from "./commands/models.ts";
import { type QualityOptions, quality } from "./commands/quality.ts";
import { read } from "./commands/read.ts";
import { type ServeOptions, serve } from "./commands/serve.ts";
import {
  type AnswerOptions,
  addAnswerOptions,
  addDataOptions,
  addEngineOptions,
  budgetsOf,
  digestBitsOf,
  type EngineOptions,
  wholeNumber,
  wholeNumbers,
  wordOf,
  wordsOf,
} from "./options.ts";
import { exitCodes, type Shell, withHost } from "./shell.ts";
import type { Terminal } from "./terminal.ts";

const exitCodeText = `
Exit codes: 0 done, 1 an error (said on standard error), 2 wrong usage, 130 interrupted.
`;

/** Runs a command line, without the words for node and the script. Returns the exit code. */
export async function runCommandLine(argv: string[], terminal: Terminal): Promise<number> {
  const outcome = { code: exitCodes.ok as number };
  const program = buildProgram(terminal, (code) => {
    outcome.code = code;
  });
  if (argv.length === 0) {
    terminal.out(program.helpInformation());
    terminal.out("\nGive a document to chat about it: scholia FILE, or npm start -- chat FILE\n");
    return exitCodes.ok;
  }
  try {
    await program.parseAsync(withCommand(program, argv), { from: "user" });
    return outcome.code;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  }
}

/** A file alone means a chat about it. */
function withCommand(program: Command, argv: string[]): string[] {
  const [first] = argv;
  const isCommand =
    program.commands.some((command) => command.name() === first) || first === "help";
  const isFile = first !== undefined && !first.startsWith("-") && existsSync(first);
  return !isCommand && isFile ? ["chat", ...argv] : argv;
}

function buildProgram(terminal: Terminal, setExitCode: (code: number) => void): Command {
  const program = new Command("scholia")
    .description(
      "Ask a whole document: every answer is made from all of its text and shows the pages it rests on.",
    )
    .version(packageVersion())
    .showHelpAfterError("(scholia --help lists commands and options)")
    .addHelpText("after", exitCodeText)
    .configureOutput({
      writeOut: (text) => terminal.out(text),
      writeErr: (text) => terminal.err(text),
    })
    .exitOverride();

  const add = (usage: string, description: string): Command =>
    program.command(usage).description(description).addHelpText("after", exitCodeText);
  const runs =
    <Options extends Pick<EngineOptions, "data" | "verbose" | "json">>(
      work: (shell: Shell, args: string[], options: Options) => Promise<number>,
    ) =>
    async (...received: unknown[]) => {
      // Commander gives the arguments, then the options, then the command.
      const command = received.at(-1) as Command;
      const options = command.opts<Options>();
      setExitCode(await withHost(terminal, options, (shell) => work(shell, command.args, options)));
    };

  addAnswerOptions(add("ask <file> <question...>", "answer a question about a document")).action(
    runs<AnswerOptions>((shell, [file, ...words], options) =>
      ask(shell, file!, words.join(" "), options),
    ),
  );

  addAnswerOptions(add("chat [file]", "ask one question after the other"))
    .option("--chat <id>", "continue this chat")
    .action(
      runs<AnswerOptions & { chat?: string }>((shell, [file], options) =>
        chat(shell, file, options),
      ),
    );

  addEngineOptions(
    add("read <file>", "read a document and keep it: its next question starts at once"),
  )
    .option("--pages <ranges>", "read only these pages, e.g. 1-20,25")
    .option("--max-tokens <n>", "room kept for an answer", wholeNumber(1, 1_048_576), 512)
    .action(runs<AnswerOptions>((shell, [file], options) => read(shell, file!, options)));

  addEngineOptions(add("heads", "block size, budget and sensitivity of each head"))
    .option("--report <folder>", "write them as a page with charts instead")
    .action(runs<HeadsOptions>((shell, _args, options) => heads(shell, options)));

  addEngineOptions(
    add("calibrate [model]", "measure a model's heads on texts and write its profile"),
  )
    .requiredOption("--texts <files...>", "documents of any kind, as varied as the reading will be")
    .option("--output <file>", "where the profile goes (default: the data folder)")
    .option("--name <name>", "the profile's name (default: the model's)")
    .option(
      "--context <tokens>",
      "reference context (default: three quarters of the model's)",
      wholeNumber(1024),
    )
    .option("--budget <tokens>", "reference budget", wholeNumber(256))
    .option(
      "--objective <what>",
      "what is made least: the error of the heads' outputs, weighed by their influence on the next token; error, the same unweighed; or recall, the attention missed",
      wordOf(objectives),
      "influence",
    )
    .option(
      "--allocate <what>",
      "chosen by head: blocks, budgets or both",
      wordOf(allocations),
      "both",
    )
    .option("--report <folder>", "also write a page with charts of what was found")
    .option("--retrieval-only", "add retrieval scores to the model's profile; the rest stays")
    .option("--seed <n>", "seed of the planted facts", wholeNumber(0, 0xffff_ffff), 0)
    .action(
      runs<CalibrateOptions>((shell, [model], options) =>
        calibrate(shell, model === undefined ? options : { ...options, model }),
      ),
    );

  addEngineOptions(
    add(
      "quality [model]",
      "measure what sparse reading costs, beside dense reading of the same texts",
    ),
  )
    .requiredOption("--texts <files...>", "documents that the model's profile was not made from")
    .option("--what <list>", "divergence, tasks, citations", wordsOf(qualityParts), [
      "divergence",
      "tasks",
    ])
    .option("--context <tokens>", "context (default: the profile's)", wholeNumber(1024))
    .option("--budget <tokens>", "tokens read per step and head", wholeNumber(256), 1024)
    .option("--tail <tokens>", "positions compared in each text", wholeNumber(16, 65_536), 256)
    .option("--tasks <list>", "only these tasks (default: all)", wordsOf(taskNames), [])
    .option("--samples <n>", "documents of each task", wholeNumber(1, 1000), 2)
    .option("--facts <n>", "planted in each text, for citations", wholeNumber(1, 200), 20)
    .option("--digests <list>", "compare these digests", wordsOf(digestKinds), [])
    .option("--bits <list>", "of a number of the digests; 16: not quantised", digestBitsOf, [4])
    .option(
      "--same <what>",
      "bytes per token or tokens, for all digests",
      wordOf(equalities),
      "bytes",
    )
    .option(
      "--budgets <list>",
      "compare the profile at these, e.g. 512,1024,8% (at least 1,024)",
      budgetsOf,
      [],
    )
    .option(
      "--store <file>",
      "write the profile with the cheapest of the budgets that stays below the bar as its default",
    )
    .option("--profiles <files...>", "compare these head profiles, too", [])
    .option(
      "--shuffles <n>",
      "compare the profile, and so many with shuffled heads (default: 1 where nothing else is compared)",
      wholeNumber(0, 16),
    )
    .option("--seed <n>", "seed of what is made up", wholeNumber(0, 0xffff), 1)
    .action(
      runs<QualityOptions>((shell, [model], options) =>
        quality(shell, model === undefined ? options : { ...options, model }),
      ),
    );

  addEngineOptions(add("bench", "measure prefill and decode rates"))
    .option("--depths <list>", "tokens in context", wholeNumbers(1), [512, 4096])
    .option("--mode <list>", "dense, ab-sparse or both", wordsOf(modes), [...modes])
    .option("--budget <tokens>", "tokens read per step and head", wholeNumber(1), 1024)
    .option("--peer", "also run libllama on the same file, in turns")
    .option("--repetitions <n>", "runs of each; the median counts", wholeNumber(1, 99), 5)
    .option("--decode-tokens <n>", "decode steps of a run", wholeNumber(1, 4096), 32)
    .option("--what <list>", "prefill, decode or both", wordsOf(["prefill", "decode"] as const), [
      "prefill",
      "decode",
    ])
    .option("--seed <n>", "seed of the text", wholeNumber(0, 0xffff_ffff), 0)
    .action(runs<BenchOptions>((shell, _args, options) => bench(shell, options)));

  const models = add("models", "the catalog of models");
  addDataOptions(models.command("list").description("models, and which are here")).action(
    runs<EngineOptions>((shell, _args, options) => listModels(shell, options)),
  );
  addDataOptions(models.command("get <id>").description("download a model")).action(
    runs<EngineOptions>((shell, [id], options) => getModel(shell, id!, options)),
  );

  addEngineOptions(add("serve", "the window in a browser of this machine"))
    .option("--port <n>", "port on 127.0.0.1; 0: any free one", wholeNumber(0, 65_535), 0)
    .option("--open", "open the browser")
    .action(async (options: ServeOptions) => setExitCode(await serve(terminal, options)));

  addEngineOptions(add("doctor", "what works here and what does not, with the remedy")).action(
    runs<EngineOptions>((shell, _args, options) => doctor(shell, options)),
  );

  return program;
}

function packageVersion(): string {
  const text = readFileSync(new URL("../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}
