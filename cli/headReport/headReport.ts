/** The report of a calibration: a page of Markdown and its charts, written to a folder. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ScholiaError } from "../../contract/errors.ts";
import type { HeadCurves, HeadRow, HeadTable } from "../../contract/heads.ts";
import { bytes, count } from "../format.ts";
import { type EngineOptions, engineSettings } from "../options.ts";
import type { Shell } from "../shell.ts";
import { errorCurves, histograms, sensitivityMap } from "./charts.ts";

/** Writes the report of the profile that the options name to a folder, which is made.
 * @returns the page's path
 * @throws ScholiaError `invalid_argument` for a model without a profile */
export async function writeHeadReport(
  shell: Shell,
  options: EngineOptions,
  folder: string,
): Promise<string> {
  const settings = engineSettings(options);
  const table = await shell.expect(shell.client.request("heads.list", settings));
  const curves = await shell.expect(shell.client.request("heads.curves", settings));
  if (curves === null)
    throw new ScholiaError(
      "invalid_argument",
      `${table.model} has no profile to report on: calibrate it first.`,
    );
  await mkdir(folder, { recursive: true });
  for (const { name, text } of headReport(table, curves)) await writeFile(join(folder, name), text);
  return join(folder, pageName);
}

const pageName = "heads.md";

/** The files of the report. The same profile gives the same bytes. */
export function headReport(table: HeadTable, curves: HeadCurves): { name: string; text: string }[] {
  return [
    { name: pageName, text: page(table, curves) },
    { name: "sensitivity.svg", text: sensitivityMap(table) },
    { name: "histograms.svg", text: histograms(table) },
    { name: "errors.svg", text: errorCurves(table, curves) },
  ];
}

function page(table: HeadTable, curves: HeadCurves): string {
  const { model, profile, layers, kvHeads, fingerprint, reference, heads } = table;
  const { uniform, texts } = curves;
  const error = mean(heads.map(({ outputError }) => outputError ?? 0));
  const recall = mean(heads.map(({ recall }) => recall ?? 0));
  return `# The heads of ${model}

Profile \`${profile}\` of the weights \`${fingerprint.slice(0, 12)}…\`: ${layers} layers × ${kvHeads} KV heads, calibrated
at ${count(reference!.contextTokens)} tokens of context and a budget of ${count(reference!.budgetTokens)} tokens per head.

| mean of heads | profile | uniform 32 |
|---|--:|--:|
| output error | ${error.toFixed(4)} | ${uniform.outputError.toFixed(4)} |
| recall | ${recall.toFixed(4)} | ${uniform.recall.toFixed(4)} |
| read per token | ${bytes(curves.bytesPerToken)} | ${bytes(curves.uniformBytesPerToken)} |

## Sensitivity

What a head's output error gains when its blocks grow from 16 to 128 tokens at the same budget.

![Sensitivity of each head](sensitivity.svg)

${headList("most sensitive", heads, ({ sensitivity }) => sensitivity)}

## Block sizes and budgets

![Block sizes and budgets](histograms.svg)

## Output error

![Output error by block size and budget](errors.svg)

${influencePart(heads)}${retrievalPart(heads)}## Texts

| text | kind | tokens |
|---|---|--:|
${texts.map(({ name, kind, tokens }) => `| ${name} | ${kind} | ${count(tokens)} |`).join("\n")}
`;
}

/** A part of the page for what older profiles do not hold; nothing where it was not measured. */
function measuredPart(
  title: string,
  meaning: string,
  highest: string,
  heads: HeadRow[],
  value: (head: HeadRow) => number | null,
): string {
  if (heads.every((head) => value(head) === null)) return "";
  return `## ${title}\n\n${meaning}\n\n${headList(highest, heads, value)}\n\n`;
}

function influencePart(heads: HeadRow[]): string {
  return measuredPart(
    "Influence",
    "How much a unit of a head's output error counted when block sizes and budgets were chosen; the mean is 1.",
    "most influence",
    heads,
    ({ influence }) => influence,
  );
}

function retrievalPart(heads: HeadRow[]): string {
  return measuredPart(
    "Retrieval",
    "How often a head's heaviest token is the one that is being copied.",
    "highest score",
    heads,
    ({ retrievalScore }) => retrievalScore,
  );
}

const listed = 8;

function headList(name: string, heads: HeadRow[], value: (head: HeadRow) => number | null): string {
  const best = heads
    .toSorted((a, b) => (value(b) ?? 0) - (value(a) ?? 0))
    .slice(0, listed)
    .map(
      (head) =>
        `| ${head.layer} | ${head.kvHead} | ${(value(head) ?? 0).toFixed(3)} | ${head.blockTokens} | ${head.budgetShare.toFixed(2)} |`,
    );
  return [
    `| layer | KV head | ${name} | block | budget share |`,
    "|--:|--:|--:|--:|--:|",
    ...best,
  ].join("\n");
}

const mean = (values: number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
