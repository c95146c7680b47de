import { useState } from "react";
import { commandIds, type Shortcuts, shortcutOf } from "../commands.ts";
import { useApp, useAppStore } from "../store/app.ts";
import type { Naming } from "../store/state.ts";
import { t } from "../strings/index.ts";
import { Button } from "./Button.tsx";
import { Dialog } from "./Dialog.tsx";
import { Keys } from "./Keys.tsx";
import styles from "./ui.module.css";

/** Asks before something that can't be undone. */
export function ConfirmDialog() {
  const confirmation = useApp((app) => app.confirmation);
  const confirm = useApp((app) => app.confirm);
  if (confirmation === null) return null;
  const { title, text, action, run } = confirmation;
  return (
    <Dialog title={title} onClose={() => confirm(null)}>
      <div className={styles.dialogBody}>
        <p>{text}</p>
        <div className={styles.dialogActions}>
          <Button onClick={() => confirm(null)}>{t("cancel")}</Button>
          <Button
            kind="danger"
            onClick={() => {
              confirm(null);
              run();
            }}
          >
            {action}
          </Button>
        </div>
      </div>
    </Dialog>
  );
}

export function NamingDialog() {
  const naming = useApp((app) => app.naming);
  return naming === null ? null : <NameForm key={naming.id} naming={naming} />;
}

function NameForm({ naming: { kind, id, name } }: { naming: Naming }) {
  const store = useAppStore();
  const [typed, setTyped] = useState(name);
  const { askForName, renameDocument, renameChat } = store.getState();
  const title = typed.trim();
  return (
    <Dialog title={t(`naming.${kind}`)} onClose={() => askForName(null)}>
      <form
        className={styles.dialogBody}
        onSubmit={(event) => {
          event.preventDefault();
          if (title === "") return;
          askForName(null);
          void (kind === "document" ? renameDocument(id, title) : renameChat(id, title));
        }}
      >
        <input
          data-first
          className={styles.textField}
          aria-label={t("naming.name")}
          value={typed}
          maxLength={500}
          onFocus={(event) => event.target.select()}
          onChange={(event) => setTyped(event.target.value)}
        />
        <div className={styles.dialogActions}>
          <Button onClick={() => askForName(null)}>{t("cancel")}</Button>
          <Button kind="primary" type="submit" disabled={title === ""}>
            {t("rename")}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

const noShortcuts: Shortcuts = {};

/** All keys at a glance. */
export function ShortcutsDialog() {
  const isOpen = useApp((app) => app.shortcutsOpen);
  const setOpen = useApp((app) => app.setShortcutsOpen);
  const openSettings = useApp((app) => app.openSettings);
  const own = useApp((app) => (app.settings.window.shortcuts ?? noShortcuts) as Shortcuts);
  if (!isOpen) return null;
  return (
    <Dialog title={t("shortcuts.title")} onClose={() => setOpen(false)}>
      <div className={styles.dialogBody}>
        <dl className={styles.shortcutList}>
          {commandIds.map((id) => {
            const keys = shortcutOf(id, own);
            if (keys === null) return null;
            return (
              <div key={id}>
                <dt>{t(`commands.${id}`)}</dt>
                <dd>
                  <Keys keys={keys} />
                </dd>
              </div>
            );
          })}
        </dl>
        <div className={styles.dialogActions}>
          <Button
            onClick={() => {
              setOpen(false);
              openSettings("shortcuts");
            }}
          >
            {t("shortcuts.edit")}
          </Button>
        </div>
      </div>
    </Dialog>
  );
}
