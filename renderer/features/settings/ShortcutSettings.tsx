import { RotateCcw } from "lucide-react";
import { useEffect, useState } from "react";
import {
  commandIds,
  commandOf,
  commands,
  keysOf,
  type Shortcuts,
  shortcutOf,
} from "../../commands.ts";
import { useApp } from "../../store/app.ts";
import type { CommandId } from "../../store/state.ts";
import { t } from "../../strings/index.ts";
import { Button, IconButton } from "../../ui/Button.tsx";
import { Keys } from "../../ui/Keys.tsx";
import styles from "./settings.module.css";

/** Every command with its keys, which can be changed. */
export function ShortcutSettings() {
  const own = useApp((app) => (app.settings.window.shortcuts ?? noShortcuts) as Shortcuts);
  const remember = useApp((app) => app.remember);
  const [recorded, setRecorded] = useState<CommandId | null>(null);
  const set = (id: CommandId, keys: string | null) => {
    const taken = keys === null ? null : commandOf(keys, own);
    // Keys do one thing: who had them before has none now.
    const freed = taken === null || taken === id ? {} : { [taken]: null };
    remember("shortcuts", { ...own, ...freed, [id]: keys });
  };
  return (
    <>
      <p className={styles.hint}>{t("shortcuts.hint")}</p>
      <ul className={styles.shortcuts}>
        {commandIds.map((id) => {
          const keys = shortcutOf(id, own);
          return (
            <li key={id}>
              <span>{t(`commands.${id}`)}</span>
              {recorded === id ? (
                <Recorder
                  onKeys={(pressed) => {
                    set(id, pressed);
                    setRecorded(null);
                  }}
                  onCancel={() => setRecorded(null)}
                />
              ) : (
                <Button kind="quiet" onClick={() => setRecorded(id)}>
                  {keys === null ? t("shortcuts.none") : <Keys keys={keys} />}
                  <span className="visuallyHidden">
                    {t("shortcuts.change", { command: t(`commands.${id}`) })}
                  </span>
                </Button>
              )}
              <IconButton
                label={t("shortcuts.reset", { command: t(`commands.${id}`) })}
                icon={<RotateCcw size={14} />}
                disabled={keys === commands[id].keys}
                onClick={() => set(id, commands[id].keys)}
              />
            </li>
          );
        })}
      </ul>
    </>
  );
}

const noShortcuts: Shortcuts = {};

function Recorder({ onKeys, onCancel }: { onKeys(keys: string | null): void; onCancel(): void }) {
  useEffect(() => {
    const take = (event: KeyboardEvent) => {
      event.preventDefault();
      event.stopPropagation();
      if (event.key === "Escape") return onCancel();
      if (event.key === "Backspace") return onKeys(null);
      const keys = keysOf(event);
      if (keys !== null) onKeys(keys);
    };
    window.addEventListener("keydown", take, true);
    return () => window.removeEventListener("keydown", take, true);
  }, [onKeys, onCancel]);
  return (
    <span className={styles.recorder} role="status">
      {t("shortcuts.press")}
    </span>
  );
}
