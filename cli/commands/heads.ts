import { resolve } from "node:path";
import type { HeadTable } from "../../contract/heads.ts";
import { count, table } from "../format.ts";
import { writeHeadReport } from "../headReport/headReport.ts";
import { type EngineOptions, engineSettings } from "../options.ts";
import { exitCodes, type Shell } from "../shell.ts";

export interface HeadsOptions extends EngineOptions {
  report?: string;
}

/** Block size, budget and sensitivity of each head; as a report where a folder is given. */
export async function heads(shell: Shell, options: HeadsOptions): Promise<number> {
  if (options.report !== undefined) {
    const path = await writeHeadReport(shell, options, resolve(options.report));
    shell.terminal.out(`Wrote ${path}\n`);
    return exitCodes.ok;
  }
  const found = await shell.expect(shell.client.request("heads.list", engineSettings(options)));
  shell.terminal.out(options.json ? `${JSON.stringify(found, null, 2)}\n` : headsText(found));
  return exitCodes.ok;
}

function headsText(found: HeadTable): string {
  const rows = found.heads.map((head) => [
    head.layer,
    head.kvHead,
    head.blockTokens,
    head.budgetShare.toFixed(2),
    measured(head.outputError),
    measured(head.recall),
    measured(head.sensitivity),
    measured(head.retrievalScore),
  ]);
  const header = [
    "layer",
    "KV head",
    "block",
    "budget share",
    "error",
    "recall",
    "sensitivity",
    "retrieval",
  ];
  const histogram = found.histogram
    .map(({ blockTokens, heads }) => `${heads} of ${blockTokens}`)
    .join(", ");
  const reference =
    found.reference === null
      ? "Not calibrated: every head has blocks of 32 tokens and the same budget (scholia calibrate)."
      : `Calibrated at ${count(found.reference.contextTokens)} tokens of context and a budget of ${count(found.reference.budgetTokens)}.`;
  return (
    `${table(rows, header)}\n` +
    `${found.model}, profile ${found.profile}: ${found.layers} layers × ${found.kvHeads} KV heads. Blocks: ${histogram}.\n` +
    `${reference}\n`
  );
}

function measured(value: number | null): string {
  return value === null ? "–" : value.toFixed(3);
}
