/** What `scholia quality` measures: how close reading a part of the context is to reading all of it. */
import type { DefaultBudget } from "./heads.ts";

export const qualityParts = ["divergence", "tasks", "citations"] as const;
export type QualityPart = (typeof qualityParts)[number];

/** What digests are compared at: the same bytes read per token, or the same tokens. */
export const equalities = ["bytes", "tokens"] as const;
export type Equality = (typeof equalities)[number];

/** Tasks in the manner of RULER (arXiv 2404.06654): `host/quality/tasks.ts` says what each asks. */
export const taskNames = [
  "single_1",
  "single_2",
  "single_3",
  "multikey_1",
  "multikey_2",
  "multikey_3",
  "multivalue",
  "multiquery",
  "variables",
  "common_words",
  "frequent_words",
  "facts",
  "implied_facts",
] as const;
export type TaskName = (typeof taskNames)[number];

/** A number with the middle 95 % of its bootstrap. */
export interface Estimate {
  value: number;
  low: number;
  high: number;
}

/** How far sparse reading may be from dense reading, in nats per token: on text as it is, and where facts
 * are asked for. */
export const qualityBar = { given: 0.02, retrieval: 0.05 } as const;
export type TextKind = keyof typeof qualityBar;

/** A text read in one mode, compared with dense reading of the same text. */
export interface DivergenceRow {
  text: string;
  kind: TextKind;
  mode: string;
  budgetTokens: number;
  positions: number;
  /** KL(dense || mode) of the next token, nats, mean over the positions. */
  kl: number;
  /** Share of positions with the same likeliest token. */
  sameTopToken: number;
  /** What the text's own next token costs more, nats. */
  lossIncrease: number;
  /** Mean bytes of keys, values and digests, and blocks of all heads, that a token read. */
  bytesPerToken: number;
  blocksPerToken: number;
  /** What dense reading reads. */
  denseBytesPerToken: number;
  /** [positions] */
  klByPosition: number[];
}

/** One answer to one question of a task. */
export interface TaskScore {
  task: string;
  /** Number of the document, from 0. */
  sample: number;
  /** Number of the question about it, from 0. */
  question: number;
  mode: string;
  /** Share of the wanted answers that were named, in [0, 1]. */
  score: number;
  text: string;
  bytesPerToken: number;
  denseBytesPerToken: number;
}

/** What points from an answer at the document: words that it quotes, or what was read while it was
 * written, by the heads that copy or by all alike. */
export const citationWays = ["quotation", "retrieval", "all heads"] as const;
export type CitationWay = (typeof citationWays)[number];

/** An answer to a question about a planted fact. */
export interface CitedAnswer {
  text: string;
  question: string;
  answer: string;
  /** It names the fact's value. */
  isRight: boolean;
  /** Whether the first citation of a sentence that names the value holds it; null: there is none. */
  cited: Record<CitationWay, boolean | null>;
}

/** Of the answers that are right. */
export interface CitationShare {
  way: CitationWay;
  right: number;
  /** How many have such a citation, and how many one that holds the value. */
  cited: number;
  holding: number;
  /** holding / right */
  share: Estimate;
}

export interface QualityReport {
  model: string;
  device: string;
  profile: string | null;
  contextTokens: number;
  budgetTokens: number;
  seed: number;
  modes: string[];
  /** Those whose budget was set so that they read the bytes of uniform 32. */
  equalBytes: string[];
  divergence: DivergenceRow[];
  /** Geometric mean of a mode's KL over the texts, as a share of uniform 32's. */
  klOfUniform32: { mode: string; ratio: Estimate }[];
  /** The same as a share of Quest's, where its INT4 digests were compared, too. */
  klOfQuest: { mode: string; ratio: Estimate }[];
  /** A mode's KL, mean over the positions of the texts of a kind, and whether all of both intervals lies
   * below the bar. */
  bar: { mode: string; kl: Record<TextKind, Estimate>; holds: boolean }[];
  /** The profile with its default budget; null: that was not asked for, or no budget held the bar. */
  stored: { path: string; defaultBudget: DefaultBudget } | null;
  tasks: TaskScore[];
  /** A mode's score less dense reading's, mean over a task's questions. */
  taskLessDense: { task: string; mode: string; difference: Estimate }[];
  /** The mean of these over the tasks on which dense reading scores at all: the others tell nothing. */
  scoreLessDense: { mode: string; difference: Estimate }[];
  citations: CitedAnswer[];
  citationShares: CitationShare[];
}
