import { resolve } from "node:path";
import type { ReadReport } from "../../contract/routes.ts";
import { bytes, count, rate, seconds } from "../format.ts";
import { type AnswerOptions, engineSettings } from "../options.ts";
import { exitCodes, type Shell } from "../shell.ts";

/** Reads a document and keeps its KV: the next question starts without prefill. */
export async function read(
  shell: Shell,
  file: string,
  options: Pick<
    AnswerOptions,
    "pages" | "maxTokens" | "model" | "profile" | "device" | "threads" | "json"
  >,
): Promise<number> {
  const run = shell.client.open("document.read", {
    path: resolve(file),
    ...engineSettings(options),
    maxTokens: options.maxTokens,
    ...(options.pages === undefined ? {} : { pages: options.pages }),
  });
  const report = await shell.follow(run);
  shell.terminal.out(options.json ? `${JSON.stringify(report, null, 2)}\n` : readText(report));
  return exitCodes.ok;
}

function readText(report: ReadReport): string {
  const { document, documentTokens, pages, documentPages } = report;
  const state = `Read ${document.title}: ${count(documentTokens)} tokens, pages ${pages} of ${documentPages}.`;
  const cached = report.cachedInMemory + report.cachedOnDisk;
  const computed =
    report.prefillTokens === 0
      ? "Nothing had to be computed"
      : `Computed ${count(report.prefillTokens)} tokens in ${seconds(report.prefillSeconds)} (${rate(report.prefillTokensPerSecond)}/s)`;
  const found = cached === 0 ? "" : `; ${count(cached)} were saved before`;
  return `${state}\n${computed}${found}. ${report.runs} files, ${bytes(report.storedBytes)}.\n`;
}
