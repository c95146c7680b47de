import { resolve } from "node:path";
import { createInterface } from "node:readline/promises";
import { ScholiaError } from "../../contract/errors.ts";
import type { AnswerOptions } from "../options.ts";
import { exitCodes, report, type Shell } from "../shell.ts";
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
      device: options.device,
      threads: options.threads,
      ...(options.model === undefined ? {} : { model: options.model }),
      ...(options.profile === undefined ? {} : { profile: options.profile }),
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
    throw new ScholiaError("usage", "Which document? scholia chat FILE, or npm start -- FILE.");
  }
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  const file = await lines.question("Document (PDF, Markdown or text): ");
  lines.close();
  return file.trim();
}

/** Lines from the keyboard or a pipe. */
async function* questions(shell: Shell, prompts: boolean): AsyncGenerator<string> {
  const { terminal } = shell;
  const lines = createInterface({
    input: process.stdin,
    ...(prompts ? { output: process.stderr, prompt: "> " } : {}),
  });
  let interrupts = 0;
  lines.on("SIGINT", () => {
    interrupts++;
    if (interrupts > 1) lines.close();
    else terminal.err("\n(Ctrl+C again or Ctrl+D leaves)\n");
    if (prompts) lines.prompt();
  });
  if (prompts) lines.prompt();
  for await (const line of lines) {
    interrupts = 0;
    const text = line.trim();
    if (text === "/quit" || text === "/exit") break;
    if (text === "/help") terminal.err(help);
    else if (text.startsWith("/")) terminal.err(`There is no ${text}. ${help}`);
    else if (text !== "") {
      // While an answer streams, Ctrl+C is for the answer: leave it to the process.
      lines.pause();
      yield text;
      lines.resume();
    }
    if (prompts) lines.prompt();
  }
  lines.close();
}
