import type { DocumentDetail } from "../../../contract/documents.ts";
import { useApp } from "../../store/app.ts";
import { t } from "../../strings/index.ts";
import styles from "./document.module.css";

/** The document's own table of contents. */
export function Outline({ detail }: { detail: DocumentDetail }) {
  const page = useApp((app) => app.place.page);
  const goTo = useApp((app) => app.goTo);
  // The entry that the page in view belongs to: the last one that begins at or before it.
  const current = detail.outline.findLastIndex((entry) => entry.page <= page);
  return (
    <nav className={styles.outline} aria-label={t("document.outline")}>
      <ol>
        {detail.outline.map((entry, index) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: titles and pages may be the same twice
          <li key={index}>
            <button
              type="button"
              style={{ paddingLeft: 10 + (entry.level - 1) * 14 }}
              aria-current={index === current ? "true" : undefined}
              onClick={() => goTo(entry.page)}
            >
              <span>{entry.title}</span>
              <small>{entry.page}</small>
            </button>
          </li>
        ))}
      </ol>
    </nav>
  );
}
