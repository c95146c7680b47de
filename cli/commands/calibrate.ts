import { resolve } from "node:path";
import type { AllocatedParts, CalibrationReport, Objective } from "../../contract/heads.ts";
import { bytes, count, table as tableText } from "../format.ts";
import { writeHeadReport } from "../headReport/headReport.ts";
import { type EngineOptions, engineSettings } from "../options.ts";
import { exitCodes, type Shell } from "../shell.ts";

export interface CalibrateOptions extends EngineOptions {
  texts: string[];
  output?: string;
  name?: string;
  context?: number;
  budget?: number;
  objective: Objective;
  allocate: AllocatedParts;
  retrievalOnly?: boolean;
  report?: string;
  seed: number;
}

/** Measures every head of a model on texts and writes its profile. */
export async function calibrate(shell: Shell, options: CalibrateOptions): Promise<number> {
  const run = shell.client.open("heads.calibrate", {
    ...engineSettings(options),
    texts: options.texts.map((text) => resolve(text)),
    seed: options.seed,
    objective: options.objective,
    allocate: options.allocate,
    ...(options.output === undefined ? {} : { output: resolve(options.output) }),
    ...(options.name === undefined ? {} : { name: options.name }),
    ...(options.context === undefined ? {} : { referenceContext: options.context }),
    ...(options.retrievalOnly ? { retrievalOnly: true } : {}),
    ...(options.budget === undefined ? {} : { referenceBudget: options.budget }),
  });
  const report = await shell.follow(run);
  shell.terminal.out(
    options.json ? `${JSON.stringify(report, null, 2)}\n` : calibrationText(report),
  );
  if (options.report !== undefined) {
    const made = { ...options, profile: report.path };
    await writeHeadReport(shell, made, resolve(options.report));
  }
  return exitCodes.ok;
}

function calibrationText(report: CalibrationReport): string {
  const { table, texts } = report;
  const histogram = table.histogram
    .map(({ blockTokens, heads }) => `${heads} of ${blockTokens}`)
    .join(", ");
  const tokens = texts.reduce((total, text) => total + text.tokens, 0);
  const retrieval = texts.filter((text) => text.kind === "retrieval").length;
  const percent = (after: number, before: number) =>
    before > 0 ? `${((100 * after) / before).toFixed(0)} %` : "–";
  return [
    `Measured ${table.heads.length} heads on ${texts.length} texts (${retrieval} of them retrieval), ${count(tokens)} tokens.`,
    `Output error ${report.outputError.toFixed(4)}, ${percent(report.outputError, report.uniformOutputError)} of uniform 32's ${report.uniformOutputError.toFixed(4)}; recall ${report.recall.toFixed(3)} against ${report.uniformRecall.toFixed(3)}.`,
    `Bytes per token at the reference: ${bytes(report.bytesPerToken)}; uniform 32: ${bytes(report.uniformBytesPerToken)}.`,
    `Blocks: ${histogram}.`,
    ...agreementLines(report),
    `Wrote ${report.path}`,
    "",
  ].join("\n");
}

function agreementLines({ agreement }: CalibrationReport): string[] {
  if (agreement.length === 0) return [];
  const rows = agreement.map(({ one, other, sensitivity, errors }) => [
    `${one} / ${other}`,
    sensitivity.toFixed(2),
    errors.toFixed(2),
  ]);
  return ["", tableText(rows, ["rank correlation over heads", "sensitivity", "all errors"]), ""];
}
