import type { Mode } from "../../../contract/answer.ts";
import { formatCount } from "../../format.ts";
import { t } from "../../strings/index.ts";

/** @param budgetTokens null: the model's own */
export function modeName(mode: Mode, budgetTokens: number | null): string {
  if (mode === "dense") return t("mode.dense");
  return budgetTokens === null
    ? t("mode.sparseOwn")
    : t("mode.sparse", { budget: formatCount(budgetTokens) });
}
