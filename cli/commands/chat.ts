import { resolve } from "node:path";
import { createInterface } from "node:readline/promises";
import { ScholiaError } from "../../contract/errors.ts";
import { type AnswerOptions, engineSettings } from "../options.ts";
import { exitCodes, report, type Shell } from "../shell.ts";
import type { Terminal } from "../terminal.ts";
import { askOnce } from "./ask.ts";

const help = `Type a question and press Enter. The earlier questions and answers are kept in mind.
  /help   this text
  /quit   leave (also Ctrl+D); the chat is kept
Ctrl+C stops an answer; at the prompt, twice leaves.
`;

/** Questions about one document, one after the other. */
export async function chat(
  shell: Shell,
  given: string | undefined,
  options: AnswerOptions & { chat?: string },
): Promise<number> {
  const { terminal } = shell;
  const file = given ?? (await askForFile());
  const path = resolve(file);
  const { chatId, turns } = await shell.expect(
    shell.client.request("chat.open", {
      path,
      ...(options.pages === undefined ? {} : { pages: options.pages }),
      ...(options.chat === undefined ? {} : { chatId: options.chat }),
    }),
  );
  const isTerminal = process.stdin.isTTY === true;
  if (isTerminal && !options.json) {
    terminal.err(`Chat about ${file} (${chatId}). /help for help.\n`);
    for (const turn of turns) terminal.out(`> ${turn.question}\n${turn.answer}\n\n`);
  }
  // Read now, so that the first question need not wait.
  await shell.follow(
    shell.client.open("document.read", {
      path,
      maxTokens: options.maxTokens,
      ...engineSettings(options),
      ...(options.pages === undefined ? {} : { pages: options.pages }),
    }),
  );
  let failures = 0;
  for await (const question of questions(shell, isTerminal && !options.json)) {
    try {
      const answer = await askOnce(shell, path, question, options, chatId);
      if (options.json) terminal.out(`${JSON.stringify(answer)}\n`);
      else terminal.out("\n");
    } catch (error) {
      // A question too long, say: the next one may do. Without the host none will.
      report(terminal, error, options.json);
      failures++;
      if (error instanceof ScholiaError && error.code === "engine_lost") break;
    }
  }
  return failures > 0 && !isTerminal ? exitCodes.error : exitCodes.ok;
}

/** @throws ScholiaError `usage` when there is nobody to ask. */
async function askForFile(): Promise<string> {
  if (process.stdin.isTTY !== true) {
    throw new ScholiaError(
      "usage",
      "Which document? scholia chat FILE, or npm start -- chat FILE.",
    );
  }
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  const file = await lines.question("Document (PDF, Markdown or text): ");
  lines.close();
  return file.trim();
}

/** What is asked, until there is nothing more or /quit. */
async function* questions(shell: Shell, fromTerminal: boolean): AsyncGenerator<string> {
  const { terminal } = shell;
  for await (const line of fromTerminal ? typedLines(terminal) : pipedLines()) {
    const text = line.trim();
    if (text === "/quit" || text === "/exit") return;
    if (text === "/help") terminal.err(help);
    else if (text.startsWith("/")) terminal.err(`There is no ${text}. ${help}`);
    else if (text !== "") yield text;
  }
}

function pipedLines(): AsyncIterable<string> {
  return createInterface({ input: process.stdin });
}

/** A reader for each line: while an answer streams the terminal is as usual, so that Ctrl+C is a
 * signal again. */
async function* typedLines(terminal: Terminal): AsyncGenerator<string> {
  const history: string[] = [];
  for (;;) {
    const line = await typedLine(terminal, history);
    if (line === null) return;
    if (line.trim() !== "") history.unshift(line);
    yield line;
  }
}

/** @returns null when the person leaves: Ctrl+D, or Ctrl+C twice. */
function typedLine(terminal: Terminal, history: string[]): Promise<string | null> {
  const reader = createInterface({
    input: process.stdin,
    output: process.stderr,
    prompt: "> ",
    history: [...history],
  });
  return new Promise((resolve) => {
    let interrupts = 0;
    reader.on("SIGINT", () => {
      interrupts++;
      if (interrupts > 1) return reader.close();
      terminal.err("\n(Ctrl+C again or Ctrl+D leaves)\n");
      reader.prompt();
    });
    reader.once("line", (line) => {
      resolve(line);
      reader.close();
    });
    reader.once("close", () => resolve(null));
    reader.prompt();
  });
}
