/** The table that `scholia heads` shows. */
import type { HeadRow, HeadTable } from "../../contract/heads.ts";
import type { ActiveProfile } from "../residentEngine.ts";
import {
  blockSizes,
  defaultBudgetOf,
  engineProfile,
  type ModelShape,
  uniformProfile,
} from "./headProfile.ts";

export function headTable(model: ModelShape & { name: string }, active: ActiveProfile): HeadTable {
  const { file } = active;
  const { blockTokens, budgetShare } = file === null ? uniformProfile(model) : engineProfile(file);
  const heads = blockTokens.map((block, index): HeadRow => {
    const layer = Math.floor(index / model.kvHeads);
    const kvHead = index % model.kvHeads;
    const byBlock = file?.measured.errorByBlock[layer]?.[kvHead];
    return {
      layer,
      kvHead,
      blockTokens: block,
      budgetShare: budgetShare[index]!,
      outputError: file?.measured.outputError[layer]?.[kvHead] ?? null,
      recall: file?.measured.recall[layer]?.[kvHead] ?? null,
      retrievalScore: file?.measured.retrieval?.score[layer]?.[kvHead] ?? null,
      sensitivity: byBlock === undefined ? null : byBlock.at(-1)! - byBlock[0]!,
      influence: file?.measured.influence?.[layer]?.[kvHead] ?? null,
    };
  });
  return {
    model: model.name,
    fingerprint: model.fingerprint,
    profile: active.name,
    calibrated: file !== null,
    layers: model.layers,
    kvHeads: model.kvHeads,
    histogram: blockSizes.map((size) => ({
      blockTokens: size,
      heads: blockTokens.filter((block) => block === size).length,
    })),
    reference: file?.reference ?? null,
    defaultBudget: defaultBudgetOf(file),
    heads,
  };
}
