import { BookOpen, FileUp } from "lucide-react";
import { sampleName } from "../../../contract/documents.ts";
import { formatBytes } from "../../format.ts";
import { useApp } from "../../store/app.ts";
import { modelInUse } from "../../store/models.ts";
import { t } from "../../strings/index.ts";
import { Button } from "../../ui/Button.tsx";
import { DownloadLine } from "../settings/DownloadLine.tsx";
import styles from "./library.module.css";

/** When no document is open: what to do first. */
export function Welcome() {
  const choose = useApp((app) => app.chooseFiles);
  const isKnown = useApp((app) => app.documents !== null);
  if (!isKnown) return null;
  return (
    <div className={styles.welcome}>
      <h1>{t("welcome.title")}</h1>
      <p className={styles.lead}>{t("welcome.lead")}</p>
      <button type="button" className={styles.dropBox} onClick={() => void choose()}>
        <FileUp size={26} strokeWidth={1.4} aria-hidden />
        <strong>{t("welcome.drop")}</strong>
        <span>{t("welcome.kinds")}</span>
      </button>
      <SampleOffer />
      <ol className={styles.steps}>
        <li>{t("welcome.step1")}</li>
        <li>{t("welcome.step2")}</li>
        <li>{t("welcome.step3")}</li>
      </ol>
      <FirstModel />
    </div>
  );
}

/** For those who have no document at hand; once it is in the library it is found there. */
function SampleOffer() {
  const isThere = useApp((app) => app.documents?.some(({ name }) => name === sampleName) ?? false);
  const open = useApp((app) => app.openSample);
  if (isThere) return null;
  return (
    <p className={styles.sample}>
      {t("welcome.sampleWhy")}
      <Button icon={<BookOpen size={15} />} onClick={() => void open()}>
        {t("welcome.sample")}
      </Button>
    </p>
  );
}

/** Without a model there are no answers: says which one fits, and fetches it. */
function FirstModel() {
  const models = useApp((app) => app.models);
  const chosen = useApp((app) => app.settings.model);
  const downloads = useApp((app) => app.downloads);
  const fetch = useApp((app) => app.download);
  const openSettings = useApp((app) => app.openSettings);
  const model = modelInUse(models, chosen);
  if (model === null || model.state === "ready") return null;
  const download = downloads[model.id];
  return (
    <section className={styles.firstModel} aria-label={t("welcome.model")}>
      <p>
        <strong>{model.name}</strong> · {formatBytes(model.bytes)} · {model.licence}
      </p>
      <p className={styles.entryDetail}>{t("welcome.modelWhy")}</p>
      {download === undefined ? (
        <div className={styles.firstModelActions}>
          <Button kind="primary" onClick={() => void fetch(model.id)}>
            {t("models.download")}
          </Button>
          <Button onClick={() => openSettings("models")}>{t("welcome.otherModel")}</Button>
        </div>
      ) : (
        <DownloadLine id={model.id} download={download} />
      )}
    </section>
  );
}
