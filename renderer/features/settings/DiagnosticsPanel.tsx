import { CircleCheck, CircleX, Copy, Info, RefreshCw } from "lucide-react";
import { useEffect, useState } from "react";
import type { CheckLine } from "../../../contract/routes.ts";
import { useApp, useAppStore } from "../../store/app.ts";
import { t } from "../../strings/index.ts";
import { Button } from "../../ui/Button.tsx";
import styles from "./settings.module.css";

const icons = { ok: CircleCheck, note: Info, fails: CircleX } as const;

/** What works on this machine and what does not, and a report to copy. */
export function DiagnosticsPanel() {
  const store = useAppStore();
  const checks = useApp((app) => app.checks);
  const version = useApp((app) => app.shellState?.version);
  const check = useApp((app) => app.check);
  const [isCopied, setCopied] = useState(false);
  useEffect(() => void check(), [check]);
  const copy = async () => {
    const text = await store.getState().diagnostics();
    if (text === null) return;
    await navigator.clipboard.writeText(text);
    setCopied(true);
  };
  return (
    <>
      <p className={styles.hint}>{t("diagnostics.about", { version: version ?? "" })}</p>
      <div className={styles.actions}>
        <Button icon={<RefreshCw size={14} />} onClick={() => void check()}>
          {t("diagnostics.again")}
        </Button>
        <Button icon={<Copy size={14} />} onClick={() => void copy()}>
          {isCopied ? t("copied") : t("diagnostics.copy")}
        </Button>
      </div>
      <p className={styles.hint}>{t("diagnostics.private")}</p>
      {checks === null ? (
        <p className={styles.hint} role="status">
          {t("diagnostics.checking")}
        </p>
      ) : (
        <ul className={styles.checks}>
          {checks.map((line) => (
            <Check key={`${line.name}: ${line.detail}`} line={line} />
          ))}
        </ul>
      )}
    </>
  );
}

function Check({ line: { name, state, detail, remedy } }: { line: CheckLine }) {
  const Icon = icons[state];
  return (
    <li data-state={state}>
      <Icon size={16} aria-label={t(`diagnostics.states.${state}`)} />
      <div>
        <strong>{name}</strong>
        <p>{detail}</p>
        {remedy !== undefined && <p className={styles.hint}>{remedy}</p>}
      </div>
    </li>
  );
}
