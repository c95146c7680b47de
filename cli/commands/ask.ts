import { resolve } from "node:path";
import type { Answer } from "../../contract/answer.ts";
import { certificateText, citationsText } from "../answerText.ts";
import { type AnswerOptions, answerSettings } from "../options.ts";
import { exitCodes, type Shell } from "../shell.ts";

/** One question, one answer. */
export async function ask(
  shell: Shell,
  file: string,
  question: string,
  options: AnswerOptions,
): Promise<number> {
  const answer = await askOnce(shell, file, question, options);
  if (options.json) shell.terminal.out(`${JSON.stringify(answer, null, 2)}\n`);
  return answer.stop === "cancelled" ? exitCodes.interrupted : exitCodes.ok;
}

/** Streams the answer, then prints what it rests on; with `--json` nothing is printed. */
export async function askOnce(
  shell: Shell,
  file: string,
  question: string,
  options: AnswerOptions,
  chatId?: string,
): Promise<Answer> {
  const { terminal } = shell;
  const run = shell.client.open("answer.ask", {
    path: resolve(file),
    question,
    ...answerSettings(options),
    ...(chatId === undefined ? {} : { chatId }),
  });
  let written = "";
  const answer = await shell.follow(run, (frame) => {
    if (options.json) return;
    // After lost frames the text comes whole.
    const text =
      frame.kind === "text"
        ? frame.text
        : frame.kind === "replay" && frame.text.startsWith(written)
          ? frame.text.slice(written.length)
          : "";
    written += text;
    terminal.out(text);
  });
  if (!options.json) {
    const stopped = answer.stop === "max_tokens" ? " …" : "";
    terminal.out(`${stopped}\n\n`);
    if (answer.stop === "max_tokens") {
      terminal.err("note: the answer ended at --max-tokens; a larger number gives it more room.\n");
    }
    const citations = citationsText(answer, terminal);
    if (citations !== "") terminal.out(`${citations}\n`);
    terminal.out(certificateText(answer, terminal));
  }
  return answer;
}
