import { Tabs } from "radix-ui";
import { useApp } from "../../store/app.ts";
import { type SettingsTab, settingsTabs } from "../../store/state.ts";
import { t } from "../../strings/index.ts";
import { Dialog } from "../../ui/Dialog.tsx";
import { AnswerSettings } from "./AnswerSettings.tsx";
import { AppearanceSettings } from "./AppearanceSettings.tsx";
import { DiagnosticsPanel } from "./DiagnosticsPanel.tsx";
import { ModelsPanel } from "./ModelsPanel.tsx";
import { ShortcutSettings } from "./ShortcutSettings.tsx";
import { StoragePanel } from "./StoragePanel.tsx";
import styles from "./settings.module.css";

const panels: Record<SettingsTab, () => React.ReactNode> = {
  answers: AnswerSettings,
  models: ModelsPanel,
  storage: StoragePanel,
  appearance: AppearanceSettings,
  shortcuts: ShortcutSettings,
  diagnostics: DiagnosticsPanel,
};

export function SettingsDialog() {
  const tab = useApp((app) => app.settingsTab);
  const open = useApp((app) => app.openSettings);
  if (tab === null) return null;
  const Panel = panels[tab];
  return (
    <Dialog title={t("settings.title")} size="wide" onClose={() => open(null)}>
      <Tabs.Root
        className={styles.settings}
        orientation="vertical"
        value={tab}
        onValueChange={(value) => open(value as SettingsTab)}
      >
        <Tabs.List className={styles.tabs} aria-label={t("settings.title")}>
          {settingsTabs.map((name) => (
            <Tabs.Trigger key={name} value={name} className={styles.tab}>
              {t(`settings.tabs.${name}`)}
            </Tabs.Trigger>
          ))}
        </Tabs.List>
        <Tabs.Content value={tab} className={styles.panel} tabIndex={-1}>
          <Panel />
        </Tabs.Content>
      </Tabs.Root>
    </Dialog>
  );
}
