/** The ways of reading that are compared. */
import type { Mode } from "../../contract/answer.ts";
import type { Engine, HeadProfileInput } from "../../host/engine/engine.ts";
import {
  checkProfileFits,
  engineProfile,
  type HeadProfile,
  uniformProfile,
} from "../../host/models/headProfile.ts";

export interface ReadingMode {
  name: string;
  mode: Mode;
  budgetTokens: number;
  profile: HeadProfileInput;
}

export const dense = (engine: Engine): ReadingMode => ({
  name: "dense",
  mode: "dense",
  budgetTokens: 1,
  profile: uniformProfile(engine.model),
});

/** @param blockTokens of every head, which all read as much */
export function uniform(engine: Engine, blockTokens: number, budgetTokens: number): ReadingMode {
  const profile = uniformProfile(engine.model);
  return {
    name: `uniform ${blockTokens}`,
    mode: "ab-sparse",
    budgetTokens,
    profile: { ...profile, blockTokens: profile.blockTokens.map(() => blockTokens) },
  };
}

/** @throws ScholiaError `profile_mismatch` */
export function profiled(engine: Engine, profile: HeadProfile, budgetTokens: number): ReadingMode {
  checkProfileFits(profile, engine.model);
  return { name: "profile", mode: "ab-sparse", budgetTokens, profile: engineProfile(profile) };
}

/** The profile with the budget that makes it read as many bytes as uniform 32 at the reference: a
 * profile has smaller blocks, and so reads more digests. */
export function profiledAtEqualBytes(
  engine: Engine,
  profile: HeadProfile,
  budgetTokens: number,
): ReadingMode {
  const budgets = profile.budgetTokens.flat();
  const mean = budgets.reduce((sum, tokens) => sum + tokens, 0) / budgets.length;
  const share = mean / profile.reference.budgetTokens;
  return {
    ...profiled(engine, profile, Math.floor(share * budgetTokens)),
    name: "profile, same bytes",
  };
}
