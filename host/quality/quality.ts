/** `scholia quality`: what reading a part of the context costs, on texts that the person gives. */
import { join, resolve } from "node:path";
import { ScholiaError } from "../../contract/errors.ts";
import {
  type CitationShare,
  type CitedAnswer,
  citationWays,
  type DivergenceRow,
  type QualityReport,
  qualityBar,
  type TaskScore,
  type TextKind,
  taskNames,
} from "../../contract/quality.ts";
import type { RunParsed } from "../../contract/routes.ts";
import type { RunSink } from "../channel.ts";
import type { Document } from "../document/document.ts";
import type { Engine } from "../engine/engine.ts";
import { calibrationTexts } from "../kv/calibrationTexts.ts";
import {
  engineProfile,
  type HeadProfile,
  loadHeadProfile,
  uniformProfile,
} from "../models/headProfile.ts";
import type { OpenDocuments } from "../prefill/readDocument.ts";
import { measureCitations } from "./citations.ts";
import { cheapestBudget, writeDefaultBudget } from "./defaultBudget.ts";
import {
  type Divergence,
  type HeldOutText,
  measureDivergence,
  middleOfTail,
} from "./divergence.ts";
import {
  meanInterval,
  pairedInterval,
  ratioInterval,
  shareInterval,
  stratifiedInterval,
} from "./intervals.ts";
import { type FileOf, keptFiles } from "./kept.ts";
import {
  atBytesOfUniform32,
  budgeted,
  dense,
  profiled,
  profiledAtEqualBytes,
  questName,
  type ReadingMode,
  shuffled,
  summarised,
  uniform,
} from "./readingModes.ts";
import { runTasks } from "./runTasks.ts";

/** With the profiles that are compared read, and where measurements are kept. */
type QualityInput = RunParsed<"quality.run"> & { compared: HeadProfile[]; keepIn: FileOf };

/** Leaves the engine with the profile that it had.
 * @param profile of the model; null: none, and only uniform reading is measured */
export async function measureQuality(
  input: RunParsed<"quality.run">,
  engine: Engine,
  profile: HeadProfile | null,
  documents: OpenDocuments,
  dataDir: string,
  sink: RunSink,
): Promise<QualityReport> {
  if (input.output !== undefined && (profile === null || input.budgets.length === 0))
    throw new ScholiaError(
      "invalid_argument",
      "A default budget is chosen from budgets, and kept in the model's profile: give --budgets, and calibrate the model first.",
    );
  try {
    const compared = await Promise.all(input.profiles.map(loadHeadProfile));
    const keepIn = await keptFiles(join(dataDir, "quality"), engine);
    const report = await measure({ ...input, compared, keepIn }, engine, profile, documents, sink);
    return { ...report, stored: await store(input, profile, report) };
  } finally {
    await engine.setProfile(
      profile === null ? uniformProfile(engine.model) : engineProfile(profile),
    );
  }
}

async function store(
  { output, budgets }: Pick<QualityInput, "output" | "budgets">,
  profile: HeadProfile | null,
  report: MeasuredReport,
): Promise<QualityReport["stored"]> {
  if (output === undefined || profile === null) return null;
  const cheapest = cheapestBudget(report, budgets);
  if (cheapest === null) return null;
  const path = resolve(output);
  await writeDefaultBudget(path, profile, cheapest);
  return { path, defaultBudget: cheapest };
}

type MeasuredReport = Omit<QualityReport, "stored">;

async function measure(
  input: QualityInput,
  engine: Engine,
  profile: HeadProfile | null,
  documents: OpenDocuments,
  sink: RunSink,
): Promise<MeasuredReport> {
  const contextTokens =
    input.contextTokens ??
    profile?.reference.contextTokens ??
    Math.floor((engine.model.contextTokens * 3) / 4);
  const opened: Document[] = [];
  for (const path of input.texts) opened.push(await documents.open(path, undefined, sink));
  const divergence = input.what.includes("divergence")
    ? await divergences(input, engine, profile, opened, contextTokens, sink)
    : [];
  const modes = modesAt(engine, profile, input, contextTokens);
  const tasks = input.what.includes("tasks")
    ? await runTasks(
        engine,
        [dense(engine), ...modes],
        {
          names: input.tasks.length > 0 ? input.tasks : taskNames,
          samples: input.samples,
          contextTokens,
          essay: opened.map(({ text }) => text).join("\n"),
          seed: input.seed,
          keepIn: input.keepIn,
        },
        sink,
      )
    : [];
  const citations = input.what.includes("citations")
    ? await measureCitations(
        engine,
        asAsked(engine, profile, input.budgetTokens),
        profile,
        opened,
        { facts: input.facts, contextTokens, seed: input.seed },
        sink,
      )
    : [];
  const names = modes.map(({ name }) => name);
  return {
    model: engine.model.name,
    device: engine.device,
    profile: profile?.name ?? null,
    contextTokens,
    budgetTokens: input.budgetTokens,
    seed: input.seed,
    modes: names,
    equalBytes: modes.filter(({ wantsEqualBytes }) => wantsEqualBytes).map(({ name }) => name),
    divergence: divergence.map(rowOf),
    klOfUniform32: ratiosOf(divergence, names, "uniform 32", input.seed),
    klOfQuest: ratiosOf(divergence, names, questName, input.seed),
    bar: divergence.length === 0 ? [] : barOf(divergence, names, input.seed),
    tasks,
    ...lessDense(tasks, tasks.length === 0 ? [] : names, input.seed),
    citations,
    citationShares: citations.length === 0 ? [] : sharesOf(citations),
  };
}

/** Uniform 32 first, then what was asked for: digests, other profiles, budgets; head maps where none of
 * them was, or shuffled ones were. */
function modesAt(
  engine: Engine,
  profile: HeadProfile | null,
  input: QualityInput,
  depthTokens: number,
): ReadingMode[] {
  const others = [
    ...(input.digests.length > 0 ? digestModes(engine, input, depthTokens) : []),
    ...input.compared.map((other) =>
      profiledAtEqualBytes(engine, other, input.budgetTokens, depthTokens, other.name),
    ),
    ...(input.budgets.length > 0 ? budgetModes(engine, profile, input, depthTokens) : []),
  ];
  const isAlone = others.length === 0;
  const maps =
    isAlone || input.shuffles !== undefined
      ? mapModes(engine, profile, input, depthTokens, isAlone)
      : [];
  return [uniform(engine, 32, input.budgetTokens), ...maps, ...others];
}

/** Block sizes and budgets by head, at the bytes of uniform 32; with the profile as it is and uniform 16
 * where nothing else is compared. */
function mapModes(
  engine: Engine,
  profile: HeadProfile | null,
  { budgetTokens, shuffles = 1, seed }: QualityInput,
  depthTokens: number,
  isAlone: boolean,
): ReadingMode[] {
  const uniform16 = isAlone ? [uniform(engine, 16, budgetTokens)] : [];
  if (profile === null) return uniform16;
  return [
    ...uniform16,
    ...(isAlone ? [profiled(engine, profile, budgetTokens)] : []),
    profiledAtEqualBytes(engine, profile, budgetTokens, depthTokens),
    ...Array.from({ length: shuffles }, (_, index) =>
      shuffled(engine, profile, budgetTokens, depthTokens, seed + index),
    ),
  ];
}

/** As questions are answered: by the profile, or by uniform 32 where there is none. */
const asAsked = (engine: Engine, profile: HeadProfile | null, budgetTokens: number): ReadingMode =>
  profile === null ? uniform(engine, 32, budgetTokens) : profiled(engine, profile, budgetTokens);

/** The profile, or uniform 32 where there is none, from the smallest budget up. */
function budgetModes(
  engine: Engine,
  profile: HeadProfile | null,
  { budgetTokens, budgets }: QualityInput,
  depthTokens: number,
): ReadingMode[] {
  const mode = asAsked(engine, profile, budgetTokens);
  return budgets
    .map((budget) => budgeted(mode, budget, depthTokens))
    .sort((one, other) => one.budgetTokens - other.budgetTokens);
}

/** Uniform 32's own digests, mean and standard deviation in INT4, are left out. */
function digestModes(
  engine: Engine,
  { budgetTokens, digests, bits, same }: QualityInput,
  depthTokens: number,
): ReadingMode[] {
  const modes = digests.flatMap((digest) =>
    bits
      .filter((width) => digest !== "mean_std" || width !== 4)
      .map((width) => summarised(engine, digest, width, budgetTokens)),
  );
  if (same === "tokens") return modes;
  return modes.map((mode) => atBytesOfUniform32(engine, mode, depthTokens));
}

async function divergences(
  input: QualityInput,
  engine: Engine,
  profile: HeadProfile | null,
  opened: Document[],
  contextTokens: number,
  sink: RunSink,
): Promise<Divergence[]> {
  const rows: Divergence[] = [];
  for (const [index, document] of opened.entries())
    for (const text of await heldOutTexts(engine, document, contextTokens, input, index)) {
      const modes = modesAt(engine, profile, input, middleOfTail(text));
      const onProgress = (done: string) => sink.notice(`${text.name}: ${done}`);
      const call = { signal: sink.signal, onProgress, keepIn: input.keepIn };
      rows.push(...(await measureDivergence(engine, text, modes, call)));
    }
  return rows;
}

/** The document as it is, and with facts that are asked for at its end. */
async function heldOutTexts(
  engine: Engine,
  document: Document,
  contextTokens: number,
  { seed, tailTokens }: QualityInput,
  index: number,
): Promise<HeldOutText[]> {
  const texts = await calibrationTexts(
    engine,
    document,
    contextTokens,
    2 * tailTokens,
    // Other windows and facts than a calibration with a small seed takes.
    seed + index + 0x5ca1_ab1e,
  );
  if (texts.length === 0)
    throw new ScholiaError(
      "invalid_argument",
      `${document.name} has fewer than ${2 * tailTokens} tokens. Give a longer text, or a smaller --tail.`,
    );
  return texts.map((text) => ({
    name: text.kind === "given" ? text.name : `${text.name}, facts asked`,
    kind: text.kind,
    tokens: text.tokens,
    tailTokens:
      text.kind === "given" ? Math.min(tailTokens, text.tokens.length / 2) : text.tailTokens,
  }));
}

const rowOf = (row: Divergence): DivergenceRow => ({
  ...row,
  positions: row.klByPosition.length,
});

/** To a mode that was measured; none where it was not. */
function ratiosOf(
  rows: Divergence[],
  modes: string[],
  base: string,
  seed: number,
): MeasuredReport["klOfUniform32"] {
  const of = (mode: string) =>
    rows.filter((row) => row.mode === mode).map(({ klByPosition }) => klByPosition);
  if (of(base).length === 0) return [];
  return modes.map((mode) => ({ mode, ratio: ratioInterval(of(mode), of(base), seed) }));
}

function barOf(rows: Divergence[], modes: string[], seed: number): MeasuredReport["bar"] {
  return modes.map((mode) => {
    const klOn = (kind: TextKind) =>
      meanInterval(
        rows
          .filter((row) => row.mode === mode && row.kind === kind)
          .map(({ klByPosition }) => klByPosition),
        seed,
      );
    const kl = { given: klOn("given"), retrieval: klOn("retrieval") };
    const holds = kl.given.high < qualityBar.given && kl.retrieval.high < qualityBar.retrieval;
    return { mode, kl, holds };
  });
}

function sharesOf(answers: CitedAnswer[]): CitationShare[] {
  const right = answers.filter(({ isRight }) => isRight);
  if (right.length === 0) return [];
  return citationWays.map((way) => {
    const cited = right.map((answer) => answer.cited[way]).filter((holds) => holds !== null);
    const holding = cited.filter((holds) => holds).length;
    const share = shareInterval(holding, right.length);
    return { way, right: right.length, cited: cited.length, holding, share };
  });
}

/** Of one mode and task, a group for each document: its questions are no independent samples. */
function differencesOf(scores: TaskScore[], mode: string, task: string): number[][] {
  const of = (mode: string) => scores.filter((row) => row.task === task && row.mode === mode);
  const dense = of("dense");
  const differences = of(mode).map(({ sample, score }, index) => ({
    sample,
    difference: score - dense[index]!.score,
  }));
  const samples = [...new Set(differences.map(({ sample }) => sample))];
  return samples.map((sample) =>
    differences.filter((row) => row.sample === sample).map(({ difference }) => difference),
  );
}

function lessDense(
  scores: TaskScore[],
  modes: string[],
  seed: number,
): Pick<QualityReport, "taskLessDense" | "scoreLessDense"> {
  const tasks = [...new Set(scores.map(({ task }) => task))];
  const telling = tasks.filter((task) =>
    scores.some((row) => row.task === task && row.mode === "dense" && row.score > 0),
  );
  return {
    taskLessDense: modes.flatMap((mode) =>
      tasks.map((task) => ({
        task,
        mode,
        difference: pairedInterval(differencesOf(scores, mode, task), seed),
      })),
    ),
    scoreLessDense: modes.map((mode) => ({
      mode,
      difference: stratifiedInterval(
        telling.map((task) => differencesOf(scores, mode, task)),
        seed,
      ),
    })),
  };
}
