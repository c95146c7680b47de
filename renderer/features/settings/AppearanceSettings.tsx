import type { Theme } from "../../../contract/settings.ts";
import { useApp } from "../../store/app.ts";
import { t } from "../../strings/index.ts";
import { Choice } from "../../ui/Choice.tsx";
import { Field } from "./Field.tsx";

const themes: readonly Theme[] = ["system", "light", "dark"];

export function AppearanceSettings() {
  const theme = useApp((app) => app.settings.theme);
  const change = useApp((app) => app.changeSettings);
  return (
    <Field label={t("settings.theme")} hint={t("settings.themeHint")}>
      <Choice
        label={t("settings.theme")}
        value={theme}
        choices={themes.map((value) => ({ value, label: t(`settings.themes.${value}`) }))}
        onChange={(next) => void change({ theme: next })}
      />
    </Field>
  );
}
