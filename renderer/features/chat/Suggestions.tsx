import { sampleName } from "../../../contract/documents.ts";
import { useApp } from "../../store/app.ts";
import { queueItemOf, wholeRead } from "../../store/library.ts";
import { t } from "../../strings/index.ts";
import styles from "./chat.module.css";

const ofAny = ["about", "terms", "rules"] as const;
const ofSample = ["sample.blocks", "sample.notFound", "sample.power"] as const;

/** Questions to begin with, once some of the document is read. */
export function Suggestions() {
  const ask = useApp((app) => app.ask);
  const isSample = useApp((app) => {
    const entry = app.documents?.find(({ id }) => id === app.document?.id);
    return entry?.name === sampleName;
  });
  const canAsk = useApp((app) => {
    const entry = app.documents?.find(({ id }) => id === app.document?.id);
    if (entry === undefined || app.connection !== "ready") return false;
    const item = queueItemOf(app, entry.id);
    return wholeRead(entry) !== null || (item !== null && item.pagesRead !== null);
  });
  if (!canAsk) return null;
  const questions = (isSample ? ofSample : ofAny).map((key) => t(`suggestions.${key}`));
  return (
    <section className={styles.suggestions} aria-label={t("suggestions.title")}>
      <h3>{t("suggestions.title")}</h3>
      {questions.map((question) => (
        <button type="button" key={question} onClick={() => void ask(question)}>
          {question}
        </button>
      ))}
    </section>
  );
}
