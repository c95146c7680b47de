/** What reading a document would take, found out before it is read: tokens from the model's tokenizer,
 * memory from the engine, times from rates that were measured here. */
import { statfs } from "node:fs/promises";
import type { Preflight } from "../../contract/documents.ts";
import { type ErrorValue, ScholiaError } from "../../contract/errors.ts";
import type { MeasuredRate } from "../../contract/memory.ts";
import type { Document } from "../document/document.ts";
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

export async function preflight(
  input: { maxTokens: number; budgetTokens: number },
  document: Document,
  { engine }: ResidentEngine,
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
  const { layers, kvHeads, headDim, contextTokens, fingerprint } = engine.model;
  // K and V of each layer and KV head, two bytes a channel.
  const kvBytesPerToken = layers * kvHeads * headDim * 2 * 2;
  const problem = problemOf(() =>
    checkContext(engine, document, segment, questionTokens, input.maxTokens),
  );
  const measured = rates.of(fingerprint, engine.device, "prefill");
  const rateOf = (mode: "ab-sparse" | "dense") => {
    const at = rates
      .of(fingerprint, engine.device, mode)
      .filter(({ budgetTokens }) => budgetTokens === null || budgetTokens === input.budgetTokens);
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
      kvBytes: tokens * kvBytesPerToken,
      kvPoolBytes: memory.kvPoolBytes,
      freeBytes: memory.freeBytes,
      diskBytes: Math.max(0, segment.tokens.length - cachedTokens) * kvBytesPerToken,
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

type Measured = Pick<MeasuredRate, "depth" | "tokensPerSecond">;

/** Seconds to prefill the tokens [from, until). The time of a token is close to a straight line over
 * its depth (attention reads all before it): the line through the measurements is integrated.
 * @returns null without measurements */
export function prefillSeconds(measured: Measured[], from: number, until: number): number | null {
  if (until <= from) return 0;
  const line = lineThrough(measured);
  if (line === null) return null;
  // At both ends at least as fast as was ever measured: a line may leave the quadrant.
  const fastest = Math.min(...measured.map(({ tokensPerSecond }) => 1 / tokensPerSecond));
  const secondsAt = (depth: number) => Math.max(fastest, line.base + line.slope * depth);
  return ((secondsAt(from) + secondsAt(until)) / 2) * (until - from);
}

/** @returns null without measurements */
export function rateAtDepth(measured: Measured[], depth: number): number | null {
  const line = lineThrough(measured);
  if (line === null) return null;
  const fastest = Math.min(...measured.map(({ tokensPerSecond }) => 1 / tokensPerSecond));
  return 1 / Math.max(fastest, line.base + line.slope * depth);
}

/** Depths closer together than this tell nothing of the slope. */
const leastSpread = 1024;

/** Seconds of a token over depth, by least squares; flat where all depths are alike, and never
 * falling. */
function lineThrough(measured: Measured[]): { base: number; slope: number } | null {
  if (measured.length === 0) return null;
  const points = measured.map(({ depth, tokensPerSecond }) => ({ depth, y: 1 / tokensPerSecond }));
  const mean = (of: (point: { depth: number; y: number }) => number) =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length;
  const [meanDepth, meanY] = [mean(({ depth }) => depth), mean(({ y }) => y)];
  const depths = points.map(({ depth }) => depth);
  if (Math.max(...depths) - Math.min(...depths) < leastSpread) return { base: meanY, slope: 0 };
  const variance = mean(({ depth }) => (depth - meanDepth) ** 2);
  const covariance = mean(({ depth, y }) => (depth - meanDepth) * (y - meanY));
  const slope = Math.max(0, covariance / variance);
  return { base: meanY - slope * meanDepth, slope };
}
