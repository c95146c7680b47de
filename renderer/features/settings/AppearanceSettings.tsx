import type { TextSize, Theme } from "../../../contract/settings.ts";
import { useApp } from "../../store/app.ts";
import { t } from "../../strings/index.ts";
import { Choice } from "../../ui/Choice.tsx";
import { Field } from "./Field.tsx";

const themes: readonly Theme[] = ["system", "light", "dark"];
const textSizes: readonly TextSize[] = ["small", "usual", "large"];
const enters = ["sends", "breaks"] as const;

export function AppearanceSettings() {
  const theme = useApp((app) => app.settings.theme);
  const textSize = useApp((app) => app.settings.textSize);
  const enterSends = useApp((app) => app.settings.enterSends);
  const change = useApp((app) => app.changeSettings);
  return (
    <>
      <Field label={t("settings.theme")} hint={t("settings.themeHint")}>
        <Choice
          label={t("settings.theme")}
          value={theme}
          choices={themes.map((value) => ({ value, label: t(`settings.themes.${value}`) }))}
          onChange={(next) => void change({ theme: next })}
        />
      </Field>
      <Field label={t("settings.textSize")} hint={t("settings.textSizeHint")}>
        <Choice
          label={t("settings.textSize")}
          value={textSize}
          choices={textSizes.map((value) => ({ value, label: t(`settings.textSizes.${value}`) }))}
          onChange={(next) => void change({ textSize: next })}
        />
      </Field>
      <Field label={t("settings.enter")} hint={t("settings.enterHint")}>
        <Choice
          label={t("settings.enter")}
          value={enterSends ? "sends" : "breaks"}
          choices={enters.map((value) => ({ value, label: t(`settings.enters.${value}`) }))}
          onChange={(next) => void change({ enterSends: next === "sends" })}
        />
      </Field>
    </>
  );
}
