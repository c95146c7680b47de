/** `scholia calibrate`: measures what each block size and budget would cost each head, and shares out
 * the bytes that uniform blocks of 32 tokens would read, so that the output error is least, each head's
 * weighed by its influence on the next token.
 *
 * The error of a head is averaged over texts by the arithmetic mean: what is then minimised is the
 * mean over texts of the total error, so the text on which a head does worst (mostly retrieval) weighs
 * most. A geometric mean would let easy texts hide it. */
import { join, resolve } from "node:path";
import { ScholiaError } from "../../contract/errors.ts";
import type { CalibrationReport, TextAgreement } from "../../contract/heads.ts";
import type { RunParsed } from "../../contract/routes.ts";
import type { RunSink } from "../channel.ts";
import type { Engine } from "../engine/engine.ts";
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
import { allocateHeads } from "./allocateHeads.ts";
import { type CalibrationText, calibrationTexts } from "./calibrationTexts.ts";
import { type ErrorTable, meanOf } from "./errorTable.ts";
import { choicesOf, offeredOf, type Reference } from "./headChoices.ts";
import { influenceBlockTokens, influenceBudgetStep, influenceWeights } from "./influence.ts";
import {
  type MeasuredCopies,
  type MeasuredText,
  measureCopies,
  measureDivergence,
  measureErrors,
} from "./measureText.ts";

/** Of the reference budget. */
const budgetSteps = [1 / 4, 3 / 8, 1 / 2, 3 / 4, 1, 3 / 2, 2, 3, 4];
const defaultBudgetTokens = 1024;
const longestContextTokens = 24_576;

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
  const influenceBudget = Math.round(influenceBudgetStep * reference.budgetTokens);
  const { digest } = await engine.profile();
  const on = { engine, dataDir, sink };
  const measured: MeasuredText[] = [];
  const copied: MeasuredCopies[] = [];
  const divergences: number[][][] = [];
  for (const [index, text] of texts.entries()) {
    const label = `${text.name} (${text.kind}, ${index + 1} of ${texts.length})`;
    measured.push(await measureErrors(on, text, digest, budgets, label));
    copied.push(await measureCopies(on, text, label));
    if (input.objective === "influence")
      divergences.push(await measureDivergence(on, text, digest, influenceBudget, label));
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
  const on = { engine, dataDir, sink };
  const copied: MeasuredCopies[] = [];
  for (const [index, text] of texts.entries()) {
    const label = `${text.name} (copied tokens, ${index + 1} of ${texts.length})`;
    copied.push(await measureCopies(on, text, label));
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
