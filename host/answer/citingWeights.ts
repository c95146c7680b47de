/** How much each head says of where an answer comes from. */
import type { ActiveProfile } from "../residentEngine.ts";
import type { HeadWeights } from "./attention.ts";

/** Heads that copy look at what they copy; most others look at what is near, or at the text's form. The
 * power leaves little to heads that copy seldom, of which there are many. */
const power = 2;

/** Each head alike. */
export const evenWeights = ({ layers, kvHeads }: Shape): HeadWeights =>
  new Float64Array(layers * kvHeads).fill(1 / (layers * kvHeads));

/** By retrieval score, where the profile has them; else each head alike. */
export function citingWeights(model: Shape, { file }: Pick<ActiveProfile, "file">): HeadWeights {
  const scores = file?.measured.retrieval?.score.flat().map((score) => score ** power) ?? [];
  const total = scores.reduce((sum, score) => sum + score, 0);
  return total > 0 ? scores.map((score) => score / total) : evenWeights(model);
}

interface Shape {
  layers: number;
  kvHeads: number;
}
