/** What reading a document would take, found out before it is read: tokens from the model's tokenizer,
 * memory from the engine, times from rates that were measured here. */
import { statfs } from "node:fs/promises";
import type { Preflight } from "../../contract/documents.ts";
import { type ErrorValue, ScholiaError } from "../../contract/errors.ts";
import { type DepthRate, secondsOverDepth } from "../../contract/timing.ts";
import type { Document } from "../document/document.ts";
import { kvBytesPerToken } from "../kv/readCost.ts";
import { budgetTokensOf } from "../models/headProfile.ts";
import type { ResidentEngine } from "../residentEngine.ts";
import type { Rates } from "../store/rates.ts";
import { layOutPrompt } from "../tokens/prompt.ts";
import { type TokenizedSegment, tokenizeSegment } from "../tokens/tokenize.ts";
import { type Demand, firstPagesWithin } from "./fit.ts";
import {
  checkContext,
  modelOf,
  type OpenDocuments,
  pagesOf,
  titleOf,
  tokensOfPages,
} from "./readDocument.ts";

/** Whether a rate measured at one budget says something of another: a share of the context makes budgets
 * that are never quite the same. */
const isNear = (one: number, other: number): boolean => Math.abs(one - other) <= other / 8;

export async function preflight(
  input: { maxTokens: number; budgetTokens: number | null },
  document: Document,
  { engine, profile }: ResidentEngine,
  documents: OpenDocuments,
  { rates, dataDir }: { rates: Rates; dataDir: string },
): Promise<Preflight> {
  const prompt = layOutPrompt(engine.model, document, [], "?");
  const segment = await documents.tokenize(engine, document, prompt);
  const conversation = await tokenizeSegment(engine, prompt.conversation);
  const questionTokens = conversation.tokens.length;
  const tokens = segment.tokens.length + questionTokens + input.maxTokens;
  const cachedTokens = await engine.cachedTokens(segment.tokens);
  const memory = await engine.memory();
  const disk = await statfs(dataDir);
  const { contextTokens, fingerprint } = engine.model;
  const tokenBytes = kvBytesPerToken(engine.model);
  const problem = problemOf(() =>
    checkContext(engine, document, segment, questionTokens, input.maxTokens),
  );
  const measured = rates.of(fingerprint, engine.device, "prefill");
  const budget = budgetTokensOf(
    input.budgetTokens,
    profile.file,
    segment.tokens.length + questionTokens,
  );
  const rateOf = (mode: "ab-sparse" | "dense") => {
    const at = rates
      .of(fingerprint, engine.device, mode)
      .filter(({ budgetTokens }) => budgetTokens === null || isNear(budgetTokens, budget));
    return { mode, tokensPerSecond: rateAtDepth(at, segment.tokens.length), count: at.length };
  };
  const answers = [rateOf("ab-sparse"), rateOf("dense")];
  return {
    document: { id: document.id, title: titleOf(document) },
    pages: pagesOf(document),
    documentPages: document.wholePageCount,
    report: document.report,
    model: modelOf(engine),
    documentTokens: segment.documentTokens,
    aroundTokens: segment.tokens.length - segment.documentTokens + questionTokens,
    answerTokens: input.maxTokens,
    contextTokens,
    fits: problem === null,
    problem,
    fittingPages:
      problem === null
        ? null
        : firstPagesWithin(demandOf(document, segment, questionTokens, input, contextTokens)),
    cachedTokens,
    memory: {
      weightsBytes: memory.weightsBytes,
      workspaceBytes: memory.workspaceBytes,
      kvBytes: tokens * tokenBytes,
      kvPoolBytes: memory.kvPoolBytes,
      freeBytes: memory.freeBytes,
      diskBytes: Math.max(0, segment.tokens.length - cachedTokens) * tokenBytes,
      freeDiskBytes: disk.bavail * disk.bsize,
    },
    readSeconds: prefillSeconds(measured, cachedTokens, segment.tokens.length),
    answerRates: answers.map(({ mode, tokensPerSecond }) => ({ mode, tokensPerSecond })),
    measurements: measured.length + answers.reduce((sum, { count }) => sum + count, 0),
  };
}

function problemOf(check: () => void): ErrorValue | null {
  try {
    check();
    return null;
  } catch (error) {
    if (error instanceof ScholiaError) return error.toValue();
    throw error;
  }
}

function demandOf(
  document: Document,
  segment: TokenizedSegment,
  questionTokens: number,
  { maxTokens }: { maxTokens: number },
  contextTokens: number,
): Demand {
  return {
    contextTokens,
    documentTokens: segment.documentTokens,
    aroundTokens: segment.tokens.length - segment.documentTokens,
    questionTokens,
    turns: 0,
    answerTokens: maxTokens,
    pages: tokensOfPages(document, segment),
  };
}

/** Seconds to prefill the tokens [from, until): the line over depth is integrated.
 * @returns null without measurements */
export function prefillSeconds(
  measured: readonly DepthRate[],
  from: number,
  until: number,
): number | null {
  if (until <= from) return 0;
  const secondsAt = secondsOverDepth(measured);
  return secondsAt && ((secondsAt(from) + secondsAt(until)) / 2) * (until - from);
}

/** @returns null without measurements */
export function rateAtDepth(measured: readonly DepthRate[], depth: number): number | null {
  const secondsAt = secondsOverDepth(measured);
  return secondsAt && 1 / secondsAt(depth);
}
