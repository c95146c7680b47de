/** The default budget of a profile: the cheapest of those measured that stays below the bar. */
import type { Budget } from "../../contract/budget.ts";
import type { DefaultBudget } from "../../contract/heads.ts";
import type { QualityReport } from "../../contract/quality.ts";
import { formatHeadProfile, type HeadProfile } from "../models/headProfile.ts";
import { writeWhole } from "../store/files.ts";
import { budgetedName } from "./readingModes.ts";

/** @param budgets that the report compared for the profile
 * @returns null when none of them stays below the bar */
export function cheapestBudget(
  { bar, divergence, contextTokens }: Pick<QualityReport, "bar" | "divergence" | "contextTokens">,
  budgets: readonly Budget[],
): DefaultBudget | null {
  const holding = budgets.flatMap((budget): DefaultBudget[] => {
    const mode = budgetedName("profile", budget);
    const verdict = bar.find((row) => row.mode === mode);
    if (verdict === undefined || !verdict.holds) return [];
    const rows = divergence.filter((row) => row.mode === mode);
    const mean = (of: (row: (typeof rows)[number]) => number) =>
      Math.round(rows.reduce((sum, row) => sum + of(row), 0) / rows.length);
    const measured = {
      contextTokens,
      positions: rows.reduce((sum, { positions }) => sum + positions, 0),
      kl: verdict.kl,
      bytesPerToken: mean(({ bytesPerToken }) => bytesPerToken),
      denseBytesPerToken: mean(({ denseBytesPerToken }) => denseBytesPerToken),
    };
    return [{ budget, measured }];
  });
  const [cheapest] = holding.sort(
    (one, other) => one.measured!.bytesPerToken - other.measured!.bytesPerToken,
  );
  return cheapest ?? null;
}

/** Writes the profile with this default budget. */
export function writeDefaultBudget(
  path: string,
  profile: HeadProfile,
  { budget, measured }: DefaultBudget,
): Promise<void> {
  if (measured === null) throw new RangeError("a default budget that was not measured");
  const kl = { given: rounded(measured.kl.given), retrieval: rounded(measured.kl.retrieval) };
  return writeWhole(
    path,
    formatHeadProfile({ ...profile, defaultBudget: { budget, measured: { ...measured, kl } } }),
  );
}

/** Four digits say more than the measurement does. */
const rounded = ({ value, low, high }: { value: number; low: number; high: number }) => ({
  value: Number(value.toPrecision(4)),
  low: Number(low.toPrecision(4)),
  high: Number(high.toPrecision(4)),
});
