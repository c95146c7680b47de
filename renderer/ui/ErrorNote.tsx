import { TriangleAlert } from "lucide-react";
import type { ReactNode } from "react";
import type { ErrorValue } from "../../contract/errors.ts";
import { t } from "../strings/index.ts";
import styles from "./ui.module.css";

/** What happened, what is kept, and the buttons that mend it. */
export function ErrorNote({ error, children }: { error: ErrorValue; children?: ReactNode }) {
  return (
    <div className={styles.errorNote} role="alert">
      <TriangleAlert size={17} aria-hidden />
      <div>
        <p>{error.message}</p>
        <p className={styles.errorCode}>{t("errorCode", { code: error.code })}</p>
        {children !== undefined && <div className={styles.errorActions}>{children}</div>}
      </div>
    </div>
  );
}
