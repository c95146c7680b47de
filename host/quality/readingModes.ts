/** The ways of reading that are compared. */
import type { Mode } from "../../contract/answer.ts";
import { type Budget, budgetTokensAt } from "../../contract/budget.ts";
import type { DigestBits, DigestKind } from "../../contract/heads.ts";
import type { Engine, HeadProfileInput } from "../engine/engine.ts";
import { headReading } from "../kv/readCost.ts";
import {
  checkProfileFits,
  engineProfile,
  type HeadProfile,
  uniformBlockTokens,
  uniformProfile,
} from "../models/headProfile.ts";
import { randomNumbers } from "../tokens/madeUpText.ts";
import { draw } from "./randomValues.ts";

export interface ReadingMode {
  name: string;
  mode: Mode;
  budgetTokens: number;
  profile: HeadProfileInput;
  /** Its budget was set so that it reads the bytes of uniform 32. */
  wantsEqualBytes?: true;
}

/** Modes depend on the model alone. */
type OpenModel = Pick<Engine, "model">;

export const dense = (engine: OpenModel): ReadingMode => ({
  name: "dense",
  mode: "dense",
  budgetTokens: 1,
  profile: uniformProfile(engine.model),
});

/** @param blockTokens of every head, which all read as much */
export function uniform(engine: OpenModel, blockTokens: number, budgetTokens: number): ReadingMode {
  const profile = uniformProfile(engine.model);
  return {
    name: `uniform ${blockTokens}`,
    mode: "ab-sparse",
    budgetTokens,
    profile: { ...profile, blockTokens: profile.blockTokens.map(() => blockTokens) },
  };
}

/** @throws ScholiaError `profile_mismatch` */
export function profiled(
  engine: OpenModel,
  profile: HeadProfile,
  budgetTokens: number,
): ReadingMode {
  checkProfileFits(profile, engine.model);
  return { name: "profile", mode: "ab-sparse", budgetTokens, profile: engineProfile(profile) };
}

/** What {@link budgeted} calls a mode. */
export const budgetedName = (mode: string, { tokens, percent }: Budget): string =>
  `${mode}, ${percent > 0 ? `${percent} %` : tokens.toLocaleString("en")}`;

/** The mode with another budget at a depth; named after it. */
export function budgeted(mode: ReadingMode, budget: Budget, depthTokens: number): ReadingMode {
  return {
    ...mode,
    name: budgetedName(mode.name, budget),
    budgetTokens: budgetTokensAt(budget, depthTokens),
  };
}

const summarisedName = (digest: DigestKind, bits: DigestBits): string =>
  `${digest} ${bits === 16 ? "f16" : `INT${bits}`}`;

/** What {@link summarised} calls Quest's digests in the bits that ours have. */
export const questName = summarisedName("quest", 4);

/** Blocks of 32 tokens for every head, summarised in another way. A digest of one vector stands for 16
 * tokens, so that it takes the bytes that two vectors take for 32. */
export function summarised(
  engine: OpenModel,
  digest: DigestKind,
  digestBits: DigestBits,
  budgetTokens: number,
): ReadingMode {
  const blockTokens = digest === "mean" ? uniformBlockTokens / 2 : uniformBlockTokens;
  const { profile, ...mode } = uniform(engine, blockTokens, budgetTokens);
  return {
    ...mode,
    name: summarisedName(digest, digestBits),
    profile: { ...profile, digest, digestBits },
  };
}

/** The mode with as much less budget as its digests are larger than uniform 32's, or as much more: both
 * read the same bytes per token at this depth, within a block for each head. */
export function atBytesOfUniform32(
  engine: OpenModel,
  mode: ReadingMode,
  depthTokens: number,
): ReadingMode {
  const { budgetTokens, profile } = mode;
  const own = digestBytes(engine, profile, budgetTokens, depthTokens);
  const wanted = digestBytes(engine, uniformProfile(engine.model), budgetTokens, depthTokens);
  const tokenBytes = 4 * engine.model.headDim * profile.blockTokens.length;
  const less = Math.ceil((own - wanted) / tokenBytes);
  return { ...mode, budgetTokens: budgetTokens - less, wantsEqualBytes: true };
}

/** Of all heads. */
function digestBytes(
  { model: { headDim } }: OpenModel,
  { blockTokens, digest, digestBits = 4 }: HeadProfileInput,
  budgetTokens: number,
  depthTokens: number,
): number {
  const format = { digest, digestBits };
  return Array.from(blockTokens).reduce(
    (sum, block) =>
      sum + headReading(block, budgetTokens, depthTokens, headDim, format).digestBytes,
    0,
  );
}

/** {@link profiled} with the bytes of uniform 32. */
export function profiledAtEqualBytes(
  engine: OpenModel,
  profile: HeadProfile,
  budgetTokens: number,
  depthTokens: number,
  name = "profile",
): ReadingMode {
  const mode = profiled(engine, profile, budgetTokens);
  return { ...atBytesOfUniform32(engine, mode, depthTokens), name: `${name}, same bytes` };
}

/** The profile's block sizes and budgets, dealt out to other heads: what is left of its gain is owed to
 * the mix of sizes and not to which head has which. At the bytes of uniform 32. */
export function shuffled(
  engine: OpenModel,
  profile: HeadProfile,
  budgetTokens: number,
  depthTokens: number,
  seed: number,
): ReadingMode {
  const own = profiledAtEqualBytes(engine, profile, budgetTokens, depthTokens);
  const { index } = draw(randomNumbers(seed));
  const order = Array.from(own.profile.blockTokens, (_, head) => head);
  for (let at = order.length - 1; at > 0; at--) {
    const other = index(at + 1);
    [order[at], order[other]] = [order[other]!, order[at]!];
  }
  const { blockTokens, budgetShare } = own.profile;
  return {
    ...own,
    name: `profile, shuffled ${seed}`,
    profile: {
      ...own.profile,
      blockTokens: order.map((head) => blockTokens[head]!),
      budgetShare: order.map((head) => budgetShare[head]!),
    },
  };
}
