/** Whose attention says where an answer comes from. */
import type { ActiveProfile } from "../residentEngine.ts";

export interface CitingHeads {
  /** How much each head's attention counts: [heads], their sum is 1. */
  weights: ArrayLike<number>;
  /** Whether they also read what is read at every step, whatever is written: it is then taken off. */
  haveSteadyPart: boolean;
}

interface Shape {
  layers: number;
  kvHeads: number;
}

/** Of a retrieval score: leaves little to heads that copy seldom, of which there are many. */
const power = 4;

/** Each head alike. */
export function allHeads({ layers, kvHeads }: Shape): CitingHeads {
  const heads = layers * kvHeads;
  return { weights: new Float64Array(heads).fill(1 / heads), haveSteadyPart: true };
}

/** Those that look at what they copy, by their retrieval scores; all where the profile has none.
 * docs/quality.md says how much better they cite. */
export function citingHeads(model: Shape, { file }: Pick<ActiveProfile, "file">): CitingHeads {
  const counts = file?.measured.retrieval?.score.flat().map((score) => score ** power) ?? [];
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0) return allHeads(model);
  return { weights: counts.map((count) => count / total), haveSteadyPart: false };
}
