import { resolve } from "node:path";
import type { DefaultBudget, HeadTable } from "../../contract/heads.ts";
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
    measured(head.influence),
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
    "influence",
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
    `${reference}\n` +
    `${defaultBudgetText(found.defaultBudget)}\n`
  );
}

/** The budget of answers for which nobody chose one, and what it costs. */
export function defaultBudgetText({ budget, measured }: DefaultBudget): string {
  const { tokens, percent } = budget;
  const read =
    percent > 0
      ? `${percent} % of the context, at least ${count(tokens)} tokens`
      : `${count(tokens)} tokens`;
  if (measured === null)
    return `Answers read ${read} unless a budget is given; what that costs was not measured (scholia quality --budgets … --store).`;
  const { kl, positions, contextTokens, bytesPerToken, denseBytesPerToken } = measured;
  const nats = ({ value, low, high }: { value: number; low: number; high: number }) =>
    `${value.toFixed(4)} (${low.toFixed(4)} to ${high.toFixed(4)})`;
  const share = ((100 * bytesPerToken) / denseBytesPerToken).toFixed(1);
  return (
    `Answers read ${read} unless a budget is given: ${share} % of dense reading's bytes at ${count(contextTokens)} tokens of context. ` +
    `KL against dense reading, nats per token: ${nats(kl.given)}, where facts are asked ${nats(kl.retrieval)}, over ${count(positions)} positions.`
  );
}

function measured(value: number | null): string {
  return value === null ? "–" : value.toFixed(3);
}
