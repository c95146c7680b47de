import { ChevronDown } from "lucide-react";
import { useApp } from "../../store/app.ts";
import { t } from "../../strings/index.ts";
import { Menu, MenuChoice, MenuLabel } from "../../ui/Menu.tsx";
import styles from "./chat.module.css";
import { modeName } from "./modeName.ts";

const budgets = [512, 1024, 2048, 4096, 8192] as const;

/** The choice of no budget in particular. */
const own = "own";

/** How answers read the document: a budget of AB-Sparse, or all of it at every token. */
export function ModeMenu() {
  const { mode, budgetTokens } = useApp((app) => app.settings);
  const change = useApp((app) => app.changeSettings);
  const known =
    budgetTokens === null || budgets.some((budget) => budget === budgetTokens)
      ? budgets
      : [...budgets, budgetTokens].sort((a, b) => a - b);
  const current = mode === "dense" ? "dense" : `${budgetTokens ?? own}`;
  return (
    <Menu
      trigger={
        <button type="button" className={styles.modeButton}>
          {modeName(mode, budgetTokens)}
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
              : { mode: "ab-sparse", budgetTokens: value === own ? null : Number(value) },
          )
        }
        choices={[
          { value: own, label: modeName("ab-sparse", null), detail: t("mode.ownDetail") },
          ...known.map((budget) => ({
            value: `${budget}`,
            label: modeName("ab-sparse", budget),
          })),
          { value: "dense", label: t("mode.dense"), detail: t("mode.denseDetail") },
        ]}
      />
    </Menu>
  );
}
