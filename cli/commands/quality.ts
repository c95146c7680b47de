import { resolve } from "node:path";
import type { Budget } from "../../contract/budget.ts";
import type { DigestBits, DigestKind } from "../../contract/heads.ts";
import {
  type DivergenceRow,
  type Equality,
  type Estimate,
  type QualityPart,
  type QualityReport,
  qualityBar,
  type TaskName,
} from "../../contract/quality.ts";
import { bytes, count } from "../format.ts";
import { type EngineOptions, engineSettings } from "../options.ts";
import { exitCodes, type Shell } from "../shell.ts";
import { defaultBudgetText } from "./heads.ts";

export interface QualityOptions extends EngineOptions {
  texts: string[];
  what: QualityPart[];
  context?: number;
  budget: number;
  tail: number;
  tasks: TaskName[];
  samples: number;
  facts: number;
  digests: DigestKind[];
  bits: DigestBits[];
  same: Equality;
  profiles: string[];
  budgets: Budget[];
  store?: string;
  shuffles?: number;
  seed: number;
}

/** Measures how close sparse reading is to dense reading; the report is Markdown. */
export async function quality(shell: Shell, options: QualityOptions): Promise<number> {
  const run = shell.client.open("quality.run", {
    ...engineSettings(options),
    texts: options.texts.map((text) => resolve(text)),
    what: options.what,
    ...(options.context === undefined ? {} : { contextTokens: options.context }),
    budgetTokens: options.budget,
    tailTokens: options.tail,
    tasks: options.tasks,
    samples: options.samples,
    facts: options.facts,
    digests: options.digests,
    bits: options.bits,
    same: options.same,
    profiles: options.profiles.map((profile) => resolve(profile)),
    budgets: options.budgets,
    ...(options.store === undefined ? {} : { output: resolve(options.store) }),
    ...(options.shuffles === undefined ? {} : { shuffles: options.shuffles }),
    seed: options.seed,
  });
  const report = await shell.follow(run);
  shell.terminal.out(options.json ? `${JSON.stringify(report, null, 2)}\n` : qualityText(report));
  return exitCodes.ok;
}

/** The report as Markdown. */
export function qualityText(report: QualityReport): string {
  const { model, device, contextTokens, budgetTokens, seed } = report;
  return [
    `${model} on ${device}; ${count(contextTokens)} tokens of context, budget ${count(budgetTokens)}, seed ${seed}.`,
    ...divergenceLines(report),
    ...storedLines(report),
    ...taskLines(report),
    ...citationLines(report),
    "",
  ].join("\n");
}

const line = (cells: string[]): string => `| ${cells.join(" | ")} |`;
const head = (cells: string[]): string[] => [
  "",
  line(cells),
  line(cells.map((_, index) => (index === 0 ? "---" : "--:"))),
];
const estimate = ({ value, low, high }: Estimate): string =>
  `${value.toFixed(3)} (${low.toFixed(3)} to ${high.toFixed(3)})`;
const signed = (points: number): string =>
  `${points > 0 ? "+" : points < 0 ? "−" : ""}${Math.abs(points).toFixed(1)}`;
const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
const mean = (values: number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);

const ratioIn = (ratios: QualityReport["klOfUniform32"]) => (mode: string) =>
  estimate(ratios.find((row) => row.mode === mode)!.ratio);

const shareOfDense = ({ bytesPerToken, denseBytesPerToken }: DivergenceRow): number =>
  bytesPerToken / denseBytesPerToken;

function divergenceLines(report: QualityReport): string[] {
  const { divergence, modes, klOfUniform32, klOfQuest, bar } = report;
  if (divergence.length === 0) return [];
  const texts = [...new Set(divergence.map(({ text }) => text))];
  const of = (mode: string) => divergence.filter((row) => row.mode === mode);
  const cells = (name: string, cell: (mode: string) => string) =>
    line([name, ...modes.map((mode) => cell(mode))]);
  const readBy = (mode: string) => mean(of(mode).map((row) => row.bytesPerToken));
  const barOf = (mode: string) => bar.find((row) => row.mode === mode)!;
  const { given, retrieval } = qualityBar;
  return [
    ...head(["KL against dense, nats per token", ...modes]),
    ...texts.map((text) =>
      cells(text, (mode) =>
        of(mode)
          .find((row) => row.text === text)!
          .kl.toFixed(4),
      ),
    ),
    cells("of uniform 32's (95 %)", ratioIn(klOfUniform32)),
    ...(klOfQuest.length === 0 ? [] : [cells("of Quest's (95 %)", ratioIn(klOfQuest))]),
    cells("mean as it is (95 %)", (mode) => estimate(barOf(mode).kl.given)),
    cells("mean with facts asked (95 %)", (mode) => estimate(barOf(mode).kl.retrieval)),
    cells(`below ${given} and ${retrieval}`, (mode) => (barOf(mode).holds ? "yes" : "no")),
    cells(
      "same top token",
      (mode) => `${(100 * mean(of(mode).map((row) => row.sameTopToken))).toFixed(1)} %`,
    ),
    cells("read per token", (mode) => bytes(readBy(mode))),
    cells(
      "of what dense reading reads",
      (mode) => `${(100 * mean(of(mode).map(shareOfDense))).toFixed(1)} %`,
    ),
    cells("blocks per token", (mode) => count(mean(of(mode).map((row) => row.blocksPerToken)))),
    cells("positions", (mode) => count(of(mode).reduce((sum, row) => sum + row.positions, 0))),
    "",
    ...unequalLines(report, readBy),
    cheapestLine(modes.map((mode) => ({ ...barOf(mode), bytes: readBy(mode) }))),
  ];
}

/** Closer is what whole blocks allow. */
const equalWithin = 0.02;

/** Modes that were to read the bytes of uniform 32 and could not. */
function unequalLines({ equalBytes }: QualityReport, readBy: (mode: string) => number): string[] {
  const wanted = readBy("uniform 32");
  const unequal = equalBytes.filter((mode) => Math.abs(readBy(mode) / wanted - 1) > equalWithin);
  if (unequal.length === 0) return [];
  const read = unequal.map((mode) => `${mode}, ${bytes(readBy(mode))}`).join("; ");
  return [
    `Not at the bytes of uniform 32, ${bytes(wanted)} per token: ${read}. No head reads less than the first and last tokens and a block.`,
    "",
  ];
}

function storedLines({ stored }: QualityReport): string[] {
  if (stored === null) return [];
  return [`Wrote ${stored.path}: ${defaultBudgetText(stored.defaultBudget)}`];
}

function cheapestLine(modes: { mode: string; holds: boolean; bytes: number }[]): string {
  const { given, retrieval } = qualityBar;
  const bar = `below ${given} nats per token and ${retrieval} where facts are asked`;
  const [cheapest] = modes.filter(({ holds }) => holds).sort((a, b) => a.bytes - b.bytes);
  return cheapest === undefined
    ? `None of them stays ${bar}.`
    : `The cheapest that stays ${bar}: ${cheapest.mode}, ${bytes(cheapest.bytes)} per token.`;
}

function taskLines({ tasks, modes, taskLessDense, scoreLessDense }: QualityReport): string[] {
  if (tasks.length === 0) return [];
  const names = [...new Set(tasks.map(({ task }) => task))];
  const of = (mode: string) => tasks.filter((row) => row.mode === mode);
  const score = (mode: string, task: string) =>
    mean(
      of(mode)
        .filter((row) => row.task === task)
        .map(({ score }) => score),
    );
  const silent = names.filter((task) => score("dense", task) === 0);
  const telling = names.filter((task) => !silent.includes(task));
  const meanScore = (mode: string) => mean(telling.map((task) => score(mode, task)));
  const points = ({ value, low, high }: Estimate) =>
    [value, low, high].map((share) => signed(100 * share)).join(" ");
  return [
    ...head(["score of 100; less dense, in points: mean, 95 % from, to", "dense", ...modes]),
    ...names.map((task) =>
      line([
        task,
        (100 * score("dense", task)).toFixed(1),
        ...modes.map((mode) => {
          const own = taskLessDense.find((row) => row.task === task && row.mode === mode)!;
          return `${(100 * score(mode, task)).toFixed(1)}; ${points(own.difference)}`;
        }),
      ]),
    ),
    line([
      "mean of the tasks",
      (100 * meanScore("dense")).toFixed(1),
      ...scoreLessDense.map(
        ({ mode, difference }) => `${(100 * meanScore(mode)).toFixed(1)}; ${points(difference)}`,
      ),
    ]),
    line([
      "read per token",
      bytes(mean(of("dense").map((row) => row.denseBytesPerToken))),
      ...modes.map((mode) => bytes(mean(of(mode).map((row) => row.bytesPerToken)))),
    ]),
    line(["questions", ...["dense", ...modes].map((mode) => count(of(mode).length))]),
    ...(silent.length === 0
      ? []
      : ["", `Dense reading scores 0 on ${silent.join(", ")}: left out of the mean.`]),
  ];
}

function citationLines({ citations, citationShares }: QualityReport): string[] {
  if (citations.length === 0) return [];
  const right = citations.filter(({ isRight }) => isRight).length;
  return [
    "",
    `${count(right)} of ${count(citations.length)} answers name the planted fact. Of these:`,
    ...head(["cited by", "have a citation", "it holds the fact", "share (95 %)"]),
    ...citationShares.map(({ way, cited, holding, share: { value, low, high } }) =>
      line([
        way,
        count(cited),
        count(holding),
        `${percent(value)} (${percent(low)} to ${percent(high)})`,
      ]),
    ),
  ];
}
