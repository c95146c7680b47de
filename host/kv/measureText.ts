/** What a calibration asks of one text: how wrong each head is when it reads less, how it looks at what
 * the text copies, and what it does to the next token alone. Each is measured once and kept in the data
 * folder, so that a calibration that was stopped goes on. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { ScholiaError } from "../../contract/errors.ts";
import type { RunSink } from "../channel.ts";
import type { Engine, HeadErrors, PrefillProgress } from "../engine/engine.ts";
import { blockSizes } from "../models/headProfile.ts";
import { writeWhole } from "../store/files.ts";
import type { CalibrationText } from "./calibrationTexts.ts";
import { type ErrorTable, errorTableSchema } from "./errorTable.ts";
import { measureInfluence } from "./influence.ts";

const queriesPerText = 64;

/** With what is measured, for whom, and where it is kept. */
export interface Measuring {
  engine: Engine;
  dataDir: string;
  sink: RunSink;
}

export interface MeasuredText {
  text: CalibrationText;
  errors: ErrorTable;
  /** From an earlier calibration that did not come to its end. */
  reused: boolean;
}

/** What a text says of retrieval: its copies, and for each query head the share of them that it looked
 * at. */
export interface MeasuredCopies {
  copies: number;
  scores: number[];
}

/** Measures a text, or takes what an earlier calibration measured of the same. */
export async function measureErrors(
  { engine, dataDir, sink }: Measuring,
  text: CalibrationText,
  digest: string,
  budgetTokens: number[],
  label: string,
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

/** Measures how the heads look at what a text copies. Right after {@link measureErrors}, its KV is still
 * found in memory. */
export async function measureCopies(
  { engine, dataDir, sink }: Measuring,
  text: CalibrationText,
  label: string,
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
export async function measureDivergence(
  { engine, dataDir, sink }: Measuring,
  text: CalibrationText,
  digest: string,
  budgetTokens: number,
  label: string,
): Promise<number[][]> {
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
