import { ChevronDown } from "lucide-react";
import { formatCount } from "../../format.ts";
import { useApp } from "../../store/app.ts";
import { t } from "../../strings/index.ts";
import { Menu, MenuChoice, MenuLabel } from "../../ui/Menu.tsx";
import styles from "./chat.module.css";

const budgets = [512, 1024, 2048, 4096, 8192] as const;

/** How answers read the document: a budget of AB-Sparse, or all of it at every token. */
export function ModeMenu() {
  const { mode, budgetTokens } = useApp((app) => app.settings);
  const change = useApp((app) => app.changeSettings);
  const known = budgets.some((budget) => budget === budgetTokens)
    ? budgets
    : [...budgets, budgetTokens].sort((a, b) => a - b);
  const current = mode === "dense" ? "dense" : `${budgetTokens}`;
  return (
    <Menu
      trigger={
        <button type="button" className={styles.modeButton}>
          {mode === "dense"
            ? t("mode.dense")
            : t("mode.sparse", { budget: formatCount(budgetTokens) })}
          <ChevronDown size={13} aria-hidden />
        </button>
      }
    >
      <MenuLabel>{t("mode.title")}</MenuLabel>
      <MenuChoice
        value={current}
        onChange={(value) =>
          void change(
            value === "dense"
              ? { mode: "dense" }
              : { mode: "ab-sparse", budgetTokens: Number(value) },
          )
        }
        choices={[
          ...known.map((budget) => ({
            value: `${budget}`,
            label: t("mode.sparse", { budget: formatCount(budget) }),
            detail: budget === 2048 ? t("mode.defaultDetail") : undefined,
          })),
          { value: "dense", label: t("mode.dense"), detail: t("mode.denseDetail") },
        ]}
      />
    </Menu>
  );
}
