/** What is known of a model's heads, as `scholia heads` shows it. A head is a (layer, KV head)
 * pair. */

import type { Budget } from "./budget.ts";

/** What summarises a block, so that it can be ranked unread: `native/include/engine/head_profile.h`
 * defines each. */
export const digestKinds = ["mean_std", "quest", "arkvale", "mean", "centroids"] as const;
export type DigestKind = (typeof digestKinds)[number];

/** Bits of a number of a digest; 16: an f16, not quantised. */
export const digestBits = [2, 4, 8, 16] as const;
export type DigestBits = (typeof digestBits)[number];

/** What a calibration makes least: the heads' output errors, each weighed by the head's influence on the next
 * token; the same unweighed; or the attention that the choice of blocks misses, 1 - recall, as AB-Sparse was
 * published. */
export const objectives = ["influence", "error", "recall"] as const;
export type Objective = (typeof objectives)[number];

/** What it may choose for each head. */
export const allocations = ["both", "blocks", "budgets"] as const;
export type AllocatedParts = (typeof allocations)[number];

export interface HeadRow {
  layer: number;
  kvHead: number;
  blockTokens: number;
  /** Share of the token budget; the mean over heads is 1. */
  budgetShare: number;
  /** Output error of the choice, relative, mean over the calibration texts; null when uncalibrated. */
  outputError: number | null;
  /** Attention mass of the selection over that of the best tokens of its size. */
  recall: number | null;
  /** How often the head's heaviest token is the one that is being copied. */
  retrievalScore: number | null;
  /** Output error with blocks of 128 tokens minus that with 16, at the reference budget. */
  sensitivity: number | null;
  /** How much a unit of the output error counted in the choice; the mean over heads is 1. */
  influence: number | null;
}

/** The budget that answers have where nobody chose one. */
export interface DefaultBudget {
  budget: Budget;
  /** Of what it was chosen for; null: it is the same for all models that nothing was measured of. */
  measured: {
    contextTokens: number;
    positions: number;
    /** KL(dense || sparse), nats per token, mean over the positions, with the middle 95 % of its
     * bootstrap. */
    kl: Record<"given" | "retrieval", { value: number; low: number; high: number }>;
    bytesPerToken: number;
    denseBytesPerToken: number;
  } | null;
}

export interface HeadTable {
  model: string;
  fingerprint: string;
  /** The profile's name, or "uniform 32" when the model has none. */
  profile: string;
  calibrated: boolean;
  layers: number;
  kvHeads: number;
  /** Heads per block size. */
  histogram: { blockTokens: number; heads: number }[];
  reference: { contextTokens: number; budgetTokens: number } | null;
  defaultBudget: DefaultBudget;
  heads: HeadRow[];
}

/** What calibration measured for each head. */
export interface HeadCurves {
  profile: string;
  /** Block sizes, in tokens: [4]. */
  blockTokens: number[];
  /** [heads][4] output error by block size at the reference budget; layer-major. */
  errorByBlock: number[][];
  /** Budgets, in tokens; empty where only the reference budget was kept. */
  budgetTokens: number[];
  /** [heads][4][budgets] output error. */
  errorByBudget: number[][][];
  /** Means over heads of blocks of 32 tokens for all. */
  uniform: { outputError: number; recall: number };
  /** Keys, values and digests read per token at the reference: of the profile, and of these blocks. */
  bytesPerToken: number;
  uniformBytesPerToken: number;
  texts: { name: string; kind: "given" | "retrieval"; tokens: number }[];
}

/** Rank correlations (Spearman's) over the heads between what was measured on two texts. */
export interface TextAgreement {
  one: string;
  other: string;
  /** Of sensitivity: output error with the largest blocks less that with the smallest, at the reference. */
  sensitivity: number;
  /** Of output error, mean over all block sizes and budgets. */
  errors: number;
}

export interface CalibrationReport {
  table: HeadTable;
  /** Where the profile was written. */
  path: string;
  /** Bytes of K, V and digests read per token at the reference context and budget. */
  bytesPerToken: number;
  uniformBytesPerToken: number;
  /** Means over heads and texts at the reference. */
  outputError: number;
  uniformOutputError: number;
  recall: number;
  uniformRecall: number;
  texts: { name: string; tokens: number; kind: "given" | "retrieval"; reused: boolean }[];
  /** Of each document with each, as they are, and of all as they are with all in which facts are asked for.
   * Empty where heads were not measured. */
  agreement: TextAgreement[];
}
