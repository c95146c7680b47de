/** `scholia calibrate`: measures what each block size and budget would cost each head, and shares out
 * the bytes that uniform blocks of 32 tokens would read, so that the output error is least.
 *
 * The error of a head is averaged over texts by the arithmetic mean: what is then minimised is the
 * mean over texts of the total error, so the text on which a head does worst (mostly retrieval) weighs
 * most. A geometric mean would let easy texts hide it. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { z } from "zod";
import { ScholiaError } from "../../contract/errors.ts";
import type { CalibrationReport, TextAgreement } from "../../contract/heads.ts";
import type { RunParsed } from "../../contract/routes.ts";
import type { RunSink } from "../channel.ts";
import type { Engine, HeadErrors, PrefillProgress } from "../engine/engine.ts";
import {
  blockSizes,
  formatHeadProfile,
  type HeadProfile,
  ownProfilesDir,
  profileFormat,
  profileVersion,
  uniformBlockTokens,
} from "../models/headProfile.ts";
import { headTable } from "../models/headTable.ts";
import type { OpenDocuments } from "../prefill/readDocument.ts";
import type { ResidentEngine } from "../residentEngine.ts";
import { writeWhole } from "../store/files.ts";
import { agreements } from "./agreement.ts";
import { allocateHeads, type Choice } from "./allocateHeads.ts";
import { type CalibrationText, calibrationTexts } from "./calibrationTexts.ts";
import {
  influenceBlockTokens,
  influenceBudgetStep,
  influenceWeights,
  measureInfluence,
} from "./influence.ts";
import { headReading } from "./readCost.ts";

/** Of the reference budget. */
const budgetSteps = [1 / 4, 3 / 8, 1 / 2, 3 / 4, 1, 3 / 2, 2, 3, 4];
const defaultBudgetTokens = 1024;
const longestContextTokens = 24_576;
const queriesPerText = 64;

interface Reference {
  contextTokens: number;
  budgetTokens: number;
}

export async function calibrate(
  input: RunParsed<"heads.calibrate">,
  resident: ResidentEngine,
  documents: OpenDocuments,
  dataDir: string,
  sink: RunSink,
): Promise<CalibrationReport> {
  if (input.retrievalOnly) return addRetrieval(input, resident, documents, dataDir, sink);
  const { engine } = resident;
  const reference = referenceOf(input, engine);
  const texts = await gatherTexts(input, engine, documents, reference, sink);
  const budgets = budgetSteps.map((step) => Math.round(step * reference.budgetTokens));
  const { digest } = await engine.profile();
  const measured: MeasuredText[] = [];
  const copied: MeasuredCopies[] = [];
  const divergences: number[][][] = [];
  for (const [index, text] of texts.entries()) {
    const label = `${text.name} (${text.kind}, ${index + 1} of ${texts.length})`;
    measured.push(await measure(engine, text, budgets, digest, dataDir, label, sink));
    copied.push(await measureCopies(engine, text, dataDir, label, sink));
    if (input.objective === "influence")
      divergences.push(await divergencesOf(engine, text, reference, digest, dataDir, label, sink));
  }
  const table = meanOf(measured.map(({ errors }) => errors));
  const found = {
    table,
    retrieval: retrievalOf(engine.model, copied, reference),
    influence: input.objective === "influence" ? influenceOf(measured, divergences) : null,
  };
  const profile = makeProfile(input, engine, digest, reference, texts, found);
  const path = await writeProfile(input, engine, dataDir, profile);
  const agreement = agreementOf(measured, reference);
  return { ...reportOf(profile, path, engine, measured), agreement };
}

/** Documents with each other, as they are: planted facts would be the same in all. Then all texts as they
 * are with those in which facts are asked for. */
function agreementOf(measured: MeasuredText[], { budgetTokens }: Reference): TextAgreement[] {
  const errorsOf = (kind: CalibrationText["kind"]) =>
    measured.filter(({ text }) => text.kind === kind).map(({ errors }) => errors);
  const documents = measured
    .filter(({ text }) => text.kind === "given")
    .map(({ text: { name }, errors }) => ({ name, errors }));
  const kinds = [
    { name: "as they are", errors: meanOf(errorsOf("given")) },
    { name: "facts asked", errors: meanOf(errorsOf("retrieval")) },
  ];
  return [...agreements(documents, budgetTokens), ...agreements(kinds, budgetTokens)];
}

/** Measures what makes retrieval heads, and adds it to the model's profile, whose other numbers stay. */
async function addRetrieval(
  input: RunParsed<"heads.calibrate">,
  { engine, profile: { file } }: ResidentEngine,
  documents: OpenDocuments,
  dataDir: string,
  sink: RunSink,
): Promise<CalibrationReport> {
  if (file === null) {
    throw new ScholiaError(
      "invalid_argument",
      "This model has no profile that retrieval scores could be added to. Calibrate it first.",
    );
  }
  const reference = referenceOf(input, engine);
  const texts = (await gatherTexts(input, engine, documents, reference, sink)).filter(
    ({ kind }) => kind === "retrieval",
  );
  const copied: MeasuredCopies[] = [];
  for (const [index, text] of texts.entries()) {
    const label = `${text.name} (copied tokens, ${index + 1} of ${texts.length})`;
    copied.push(await measureCopies(engine, text, dataDir, label, sink));
  }
  const retrieval = retrievalOf(engine.model, copied, reference);
  const profile = { ...file, measured: { ...file.measured, retrieval } };
  const path = await writeProfile(input, engine, dataDir, profile);
  return reportOf(
    profile,
    path,
    engine,
    texts.map((text) => ({ text, reused: false })),
  );
}

async function writeProfile(
  input: RunParsed<"heads.calibrate">,
  engine: Engine,
  dataDir: string,
  profile: HeadProfile,
): Promise<string> {
  const path = resolve(
    input.output ?? join(ownProfilesDir(dataDir), `${engine.model.fingerprint.slice(0, 16)}.json`),
  );
  await writeWhole(path, formatHeadProfile(profile));
  return path;
}

/** What a text says of retrieval: its copies, and for each query head the share of them that it looked
 * at. */
interface MeasuredCopies {
  copies: number;
  scores: number[];
}

/** Measures how the heads look at what a text copies. Right after {@link measure}, its KV is still
 * found in memory. */
async function measureCopies(
  engine: Engine,
  text: CalibrationText,
  dataDir: string,
  label: string,
  sink: RunSink,
): Promise<MeasuredCopies> {
  const copies = text.copies.positions.length;
  if (copies === 0) return { copies, scores: [] };
  const key = keyOf(["copies", 1, engine.model.fingerprint], text);
  const { value } = await measuredOnce(
    dataDir,
    key,
    z.array(z.number().min(0).max(1)),
    async () => [
      ...(await engine.measureRetrieval(text.tokens, {
        ...text.copies,
        signal: sink.signal,
        onProgress: (progress) => sink.progress(measureProgress(progress, label)),
      })),
    ],
  );
  return { copies, scores: value };
}

/** Measures how far each head alone takes the next token from dense reading's. */
async function divergencesOf(
  engine: Engine,
  text: CalibrationText,
  reference: Reference,
  digest: string,
  dataDir: string,
  label: string,
  sink: RunSink,
): Promise<number[][]> {
  const budgetTokens = Math.round(influenceBudgetStep * reference.budgetTokens);
  const { fingerprint } = engine.model;
  const key = keyOf(["influence", 1, fingerprint, engine.device, digest, budgetTokens], text);
  const { value } = await measuredOnce(
    dataDir,
    key,
    z.array(z.array(z.number()).min(1)).min(1),
    () =>
      measureInfluence(engine, text, budgetTokens, {
        signal: sink.signal,
        onProgress: (done, total) => sink.progress(influenceProgress(done, total, label)),
      }),
  );
  return value;
}

/** [heads], from what they do alone on each text and how wrong their outputs then are. */
function influenceOf(measured: MeasuredText[], divergences: number[][][]): number[] {
  const texts = measured.map(({ errors }, index) => {
    const { blockTokens, budgetTokens, outputError } = errors;
    const pairs = blockTokens.length * budgetTokens.length;
    const at =
      blockTokens.indexOf(influenceBlockTokens) * budgetTokens.length +
      budgetSteps.indexOf(influenceBudgetStep);
    const heads = divergences[index]![0]!.length;
    return {
      divergence: divergences[index]!,
      outputError: Array.from({ length: heads }, (_, head) => outputError[head * pairs + at]!),
    };
  });
  return influenceWeights(texts);
}

/** The retrieval score of each KV head: over all copies, the best of its query heads; null without
 * copies. */
export function retrievalOf(
  { layers, kvHeads, queryHeads }: Pick<Engine["model"], "layers" | "kvHeads" | "queryHeads">,
  measured: MeasuredCopies[],
  reference: Reference,
): HeadProfile["measured"]["retrieval"] {
  const copies = sum(measured.map((text) => text.copies));
  if (copies === 0) return null;
  const group = queryHeads / kvHeads;
  const scoreOf = (queryHead: number) =>
    sum(measured.map((text) => text.copies * (text.scores[queryHead] ?? 0))) / copies;
  const score = Array.from({ length: layers }, (_, layer) =>
    Array.from({ length: kvHeads }, (_, kvHead) => {
      const first = layer * queryHeads + kvHead * group;
      return rounded(Math.max(...Array.from({ length: group }, (_, at) => scoreOf(first + at))));
    }),
  );
  return { score, copies, contextTokens: reference.contextTokens };
}

function referenceOf(input: RunParsed<"heads.calibrate">, engine: Engine): Reference {
  const { contextTokens: context } = engine.model;
  const contextTokens =
    input.referenceContext ?? Math.min(longestContextTokens, Math.floor((context * 3) / 4));
  const budgetTokens = input.referenceBudget ?? defaultBudgetTokens;
  if (contextTokens > context) {
    throw new ScholiaError(
      "context_exceeded",
      `A reference context of ${contextTokens} tokens is more than the model's ${context}.`,
    );
  }
  if (budgetTokens * 2 > contextTokens) {
    throw new ScholiaError(
      "invalid_argument",
      `The reference budget (${budgetTokens}) must be at most half of the reference context (${contextTokens}).`,
    );
  }
  return { contextTokens, budgetTokens };
}

async function gatherTexts(
  input: RunParsed<"heads.calibrate">,
  engine: Engine,
  documents: OpenDocuments,
  reference: Reference,
  sink: RunSink,
): Promise<CalibrationText[]> {
  const texts: CalibrationText[] = [];
  // Shorter than this, even half the budget would read most of the text.
  const leastTokens = 2 * reference.budgetTokens;
  for (const [index, path] of input.texts.entries()) {
    const document = await documents.open(path, undefined, sink);
    const made = await calibrationTexts(
      engine,
      document,
      reference.contextTokens,
      leastTokens,
      input.seed + index,
    );
    if (made.length === 0)
      sink.notice(`${document.name} has fewer than ${leastTokens} tokens and is left out.`);
    texts.push(...made);
  }
  if (texts.length > 0) return texts;
  throw new ScholiaError(
    "invalid_argument",
    `No text is long enough: ${leastTokens} tokens at least, better ${reference.contextTokens}. Give longer --texts, or a smaller --context and --budget.`,
  );
}

interface MeasuredText {
  text: CalibrationText;
  errors: ErrorTable;
  /** From an earlier calibration that did not come to its end. */
  reused: boolean;
}

/** [heads][block sizes][budgets], flat. */
const errorTableSchema = z.strictObject({
  blockTokens: z.array(z.int()),
  budgetTokens: z.array(z.int()),
  outputError: z.array(z.number()),
  recall: z.array(z.number()),
  queries: z.int(),
});
type ErrorTable = z.infer<typeof errorTableSchema>;

/** Measures a text, or takes what an earlier calibration measured of the same. */
async function measure(
  engine: Engine,
  text: CalibrationText,
  budgetTokens: number[],
  digest: string,
  dataDir: string,
  label: string,
  sink: RunSink,
): Promise<MeasuredText> {
  const queries = Math.min(queriesPerText, text.tailTokens);
  const request = {
    tailTokens: text.tailTokens,
    queries,
    blockTokens: [...blockSizes],
    budgetTokens,
  };
  const key = keyOf([1, engine.model.fingerprint, digest, request], text);
  const { value: errors, reused } = await measuredOnce(dataDir, key, errorTableSchema, async () => {
    const found = await engine.measureHeads(text.tokens, {
      ...request,
      signal: sink.signal,
      onProgress: (progress) => sink.progress(measureProgress(progress, label)),
    });
    const table = plainTable(found);
    if (![...table.outputError, ...table.recall].every(Number.isFinite)) {
      throw new ScholiaError("internal", `The measurement of ${label} gave numbers that are none.`);
    }
    return table;
  });
  return { text, errors, reused };
}

/** Names a measurement of a text, by all that it depends on. */
function keyOf(what: unknown[], text: CalibrationText): string {
  return createHash("sha256")
    .update(JSON.stringify(what))
    .update(new Uint8Array(text.tokens.buffer))
    .digest("hex");
}

/** What an earlier calibration measured of the same; else it is measured, and kept. */
async function measuredOnce<T>(
  dataDir: string,
  key: string,
  schema: z.ZodType<T>,
  make: () => Promise<T>,
): Promise<{ value: T; reused: boolean }> {
  const path = join(dataDir, "calibration", `${key}.json`);
  try {
    return { value: schema.parse(JSON.parse(await readFile(path, "utf8"))), reused: true };
  } catch {
    const value = await make();
    await writeWhole(path, JSON.stringify(value));
    return { value, reused: false };
  }
}

function plainTable(found: HeadErrors): ErrorTable {
  return {
    blockTokens: [...found.blockTokens],
    budgetTokens: [...found.budgetTokens],
    outputError: [...found.outputError],
    recall: [...found.recall],
    queries: found.queries,
  };
}

function measureProgress(now: PrefillProgress, label: string) {
  const rate = now.tokensPerSecond > 0 ? now.tokensPerSecond : null;
  return {
    phase: "prefill" as const,
    done: now.doneTokens,
    total: now.totalTokens,
    unit: "tokens" as const,
    seconds: now.seconds,
    rate,
    secondsLeft: rate === null ? null : (now.totalTokens - now.doneTokens) / rate,
    label,
  };
}

function influenceProgress(done: number, total: number, label: string) {
  return {
    phase: "prefill" as const,
    done,
    total,
    unit: "tokens" as const,
    seconds: 0,
    rate: null,
    secondsLeft: null,
    label: `${label}, head by head`,
  };
}

/** Element by element. */
export function meanOf(tables: ErrorTable[]): ErrorTable {
  const [first] = tables;
  const mean = (of: (table: ErrorTable) => number[]) =>
    of(first!).map((_value, index) => {
      const sum = tables.reduce((total, table) => total + of(table)[index]!, 0);
      return sum / tables.length;
    });
  return {
    ...first!,
    outputError: mean((table) => table.outputError),
    recall: mean((table) => table.recall),
  };
}

/** Its place in the table, too. */
type HeadChoice = Choice & { index: number; recall: number };

/** The choices of each head with their bytes at the reference, and the index into the table. */
export function choicesOf(
  table: ErrorTable,
  heads: number,
  headDim: number,
  reference: Reference,
): HeadChoice[][] {
  const { blockTokens, budgetTokens } = table;
  return Array.from({ length: heads }, (_, head) =>
    blockTokens.flatMap((block, b) =>
      budgetTokens.map((budget, t) => {
        const index = (head * blockTokens.length + b) * budgetTokens.length + t;
        const reading = headReading(block, budget, reference.contextTokens, headDim);
        return {
          index,
          blockTokens: block,
          // A head reads its forced tokens and one block, however small its budget.
          budgetTokens: reading.tokens,
          bytes: reading.kvBytes + reading.digestBytes,
          error: table.outputError[index]!,
          recall: table.recall[index]!,
        };
      }),
    ),
  );
}

/** The choices that the calibration may make for a head, with what it makes least for their error.
 * @param influence of the head, for the objective that weighs its error by it */
export function offeredOf(
  head: HeadChoice[],
  { blockTokens, budgetTokens }: ErrorTable,
  reference: Reference,
  { objective, allocate }: Pick<RunParsed<"heads.calibrate">, "objective" | "allocate">,
  influence = 1,
): HeadChoice[] {
  const block = blockTokens.indexOf(uniformBlockTokens);
  const budget = budgetTokens.indexOf(reference.budgetTokens);
  const weighed = ({ error, recall }: HeadChoice) =>
    ({ influence: influence * error, error, recall: 1 - recall })[objective];
  return head
    .filter((_choice, at) => {
      const isOfBlock = Math.floor(at / budgetTokens.length) === block;
      const isOfBudget = at % budgetTokens.length === budget;
      return allocate === "both" || (allocate === "blocks" ? isOfBudget : isOfBlock);
    })
    .map((choice) => ({ ...choice, error: weighed(choice) }));
}

/** What all texts together say of the heads. */
interface Found {
  table: ErrorTable;
  retrieval: HeadProfile["measured"]["retrieval"];
  /** [heads]; null: it was not asked for. */
  influence: number[] | null;
}

function makeProfile(
  input: RunParsed<"heads.calibrate">,
  engine: Engine,
  digest: HeadProfile["digest"],
  reference: Reference,
  texts: CalibrationText[],
  { table, retrieval, influence }: Found,
): HeadProfile {
  const { model } = engine;
  const heads = model.layers * model.kvHeads;
  const choices = choicesOf(table, heads, model.headDim, reference);
  const atReference = table.budgetTokens.indexOf(reference.budgetTokens);
  const uniformAt =
    table.blockTokens.indexOf(uniformBlockTokens) * table.budgetTokens.length + atReference;
  const uniform = choices.map((head) => head[uniformAt]!);
  const limit = sum(uniform.map(({ bytes }) => bytes));
  const offered = choices.map((choices, head) =>
    offeredOf(choices, table, reference, input, influence?.[head]),
  );
  const allocation = allocateHeads(offered, limit);
  if (allocation === null) {
    throw new ScholiaError(
      "invalid_argument",
      `The reference budget (${reference.budgetTokens}) is too small: the tokens that every head must read take more. Give a larger --budget.`,
    );
  }
  const chosen = allocation.chosen.map((at, head) => {
    const { index } = offered[head]![at]!;
    return choices[head]!.find((choice) => choice.index === index)!;
  });
  const byLayer = <Value>(values: Value[]) =>
    Array.from({ length: model.layers }, (_, layer) =>
      values.slice(layer * model.kvHeads, (layer + 1) * model.kvHeads),
    );
  return {
    format: profileFormat,
    version: profileVersion,
    name: input.name ?? model.name,
    model: {
      name: model.name,
      fingerprint: model.fingerprint,
      layers: model.layers,
      kvHeads: model.kvHeads,
      headDim: model.headDim,
    },
    digest,
    reference,
    seed: input.seed,
    blockTokens: byLayer(chosen.map(({ blockTokens }) => blockTokens as 16 | 32 | 64 | 128)),
    budgetTokens: byLayer(chosen.map(({ budgetTokens }) => budgetTokens)),
    defaultBudget: null,
    measured: {
      outputError: byLayer(chosen.map(({ error }) => rounded(error))),
      recall: byLayer(chosen.map(({ recall }) => rounded(recall))),
      errorByBlock: byLayer(
        choices.map((head) =>
          blockSizes.map((_size, b) =>
            rounded(head[b * table.budgetTokens.length + atReference]!.error),
          ),
        ),
      ),
      uniform: {
        outputError: rounded(mean(uniform.map(({ error }) => error))),
        recall: rounded(mean(uniform.map(({ recall }) => recall))),
      },
      bytesPerToken: allocation.bytes,
      uniformBytesPerToken: limit,
      queries: table.queries,
      errors: {
        budgetTokens: table.budgetTokens,
        table: byLayer(
          choices.map((head) =>
            blockSizes.map((_size, b) =>
              table.budgetTokens.map((_budget, t) =>
                shown(head[b * table.budgetTokens.length + t]!.error),
              ),
            ),
          ),
        ),
      },
      retrieval,
      influence: influence === null ? null : byLayer(influence.map(rounded)),
    },
    texts: texts.map(({ name, kind, sha256, tokens }) => ({
      name,
      kind,
      sha256,
      tokens: tokens.length,
    })),
  };
}

function reportOf(
  profile: HeadProfile,
  path: string,
  engine: Engine,
  measured: Pick<MeasuredText, "text" | "reused">[],
): CalibrationReport {
  return {
    table: headTable(engine.model, { name: profile.name, file: profile }),
    path,
    bytesPerToken: profile.measured.bytesPerToken,
    uniformBytesPerToken: profile.measured.uniformBytesPerToken,
    outputError: mean(profile.measured.outputError.flat()),
    uniformOutputError: profile.measured.uniform.outputError,
    recall: mean(profile.measured.recall.flat()),
    uniformRecall: profile.measured.uniform.recall,
    texts: measured.map(({ text, reused }) => ({
      name: text.name,
      tokens: text.tokens.length,
      kind: text.kind,
      reused,
    })),
    agreement: [],
  };
}

/** Six digits say more than the measurement does. */
function rounded(value: number): number {
  return Number(value.toPrecision(6));
}

/** Of a curve, no more than can be seen. */
function shown(value: number): number {
  return Number(value.toPrecision(4));
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function mean(values: number[]): number {
  return values.length === 0 ? 0 : sum(values) / values.length;
}
