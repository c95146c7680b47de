import type { Mode } from "../../../contract/answer.ts";
import type { Device } from "../../../contract/settings.ts";
import { useApp } from "../../store/app.ts";
import { t } from "../../strings/index.ts";
import { Choice } from "../../ui/Choice.tsx";
import { Field, NumberField } from "./Field.tsx";

const modes: readonly Mode[] = ["ab-sparse", "dense"];
const devices: readonly Device[] = ["auto", "cpu", "cuda"];

export function AnswerSettings() {
  const settings = useApp((app) => app.settings);
  const change = useApp((app) => app.changeSettings);
  return (
    <>
      <Field label={t("settings.mode")} hint={t("settings.modeHint")}>
        <Choice
          label={t("settings.mode")}
          value={settings.mode}
          choices={modes.map((value) => ({ value, label: t(`settings.modes.${value}`) }))}
          onChange={(mode) => void change({ mode })}
        />
      </Field>
      <NumberField
        label={t("settings.budget")}
        hint={t("settings.budgetHint")}
        value={settings.budgetTokens}
        least={1}
        most={16_777_216}
        onChange={(budgetTokens) => void change({ budgetTokens })}
        onEmpty={() => void change({ budgetTokens: null })}
      />
      <NumberField
        label={t("settings.maxTokens")}
        hint={t("settings.maxTokensHint")}
        value={settings.maxTokens}
        least={1}
        most={1_048_576}
        onChange={(maxTokens) => void change({ maxTokens })}
      />
      <NumberField
        label={t("settings.temperature")}
        hint={t("settings.temperatureHint")}
        value={settings.temperature}
        least={0}
        most={10}
        step={0.05}
        onChange={(temperature) => void change({ temperature })}
      />
      <Field label={t("settings.device")} hint={t("settings.deviceHint")}>
        <Choice
          label={t("settings.device")}
          value={settings.device}
          choices={devices.map((value) => ({ value, label: t(`settings.devices.${value}`) }))}
          onChange={(device) => void change({ device })}
        />
      </Field>
      <NumberField
        label={t("settings.threads")}
        hint={t("settings.threadsHint")}
        value={settings.threads}
        least={0}
        most={1024}
        onChange={(threads) => void change({ threads })}
      />
    </>
  );
}
