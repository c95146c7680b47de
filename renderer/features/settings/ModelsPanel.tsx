import { Check, FolderOpen, Trash2 } from "lucide-react";
import { useEffect } from "react";
import type { ModelLine } from "../../../contract/routes.ts";
import { formatBytes, formatCount } from "../../format.ts";
import { useApp, useAppStore } from "../../store/app.ts";
import { modelInUse } from "../../store/models.ts";
import { t } from "../../strings/index.ts";
import { Button, IconButton } from "../../ui/Button.tsx";
import { DownloadLine } from "./DownloadLine.tsx";
import styles from "./settings.module.css";

/** Models of the catalog, best first, and files of one's own. */
export function ModelsPanel() {
  const models = useApp((app) => app.models);
  const chosen = useApp((app) => app.settings.model);
  const isDesktop = useApp((app) => app.shellState?.kind === "desktop");
  const refresh = useApp((app) => app.refreshModels);
  const chooseFile = useApp((app) => app.chooseModelFile);
  const used = modelInUse(models, chosen);
  useEffect(() => void refresh(), [refresh]);
  return (
    <>
      <p className={styles.hint}>{t("models.hint")}</p>
      <ul className={styles.models}>
        {chosen !== null && used === null && models !== null && (
          <li className={styles.model}>
            <div>
              <strong>{chosen}</strong>
              <p className={styles.hint}>{t("models.ownFile")}</p>
            </div>
            <InUse />
          </li>
        )}
        {models?.map((model) => (
          <Model key={model.id} model={model} isUsed={model.id === used?.id} />
        ))}
      </ul>
      {isDesktop && (
        <Button icon={<FolderOpen size={15} />} onClick={() => void chooseFile()}>
          {t("models.chooseFile")}
        </Button>
      )}
    </>
  );
}

const InUse = () => (
  <span className={styles.inUse}>
    <Check size={15} aria-hidden /> {t("models.inUse")}
  </span>
);

function Model({ model, isUsed }: { model: ModelLine; isUsed: boolean }) {
  const store = useAppStore();
  const download = useApp((app) => app.downloads[model.id]);
  const { download: fetch, useModel: use, removeModel, confirm } = store.getState();
  return (
    <li className={styles.model}>
      <div>
        <strong>{model.name}</strong>
        <p className={styles.hint}>
          {[
            formatBytes(model.bytes),
            t("models.context", { tokens: formatCount(model.contextTokens) }),
            model.licence,
          ].join(" · ")}
        </p>
        {!model.fitsMemory && <p className={styles.warning}>{t("models.tooLarge")}</p>}
        {download !== undefined && <DownloadLine id={model.id} download={download} />}
      </div>
      <div className={styles.modelActions}>
        {model.state === "ready" ? (
          <>
            {isUsed ? (
              <InUse />
            ) : (
              <Button onClick={() => void use(model.id)}>{t("models.use")}</Button>
            )}
            <IconButton
              label={t("models.remove", { name: model.name })}
              icon={<Trash2 size={15} />}
              onClick={() =>
                confirm({
                  title: t("models.removeTitle"),
                  text: t("models.removeText", {
                    name: model.name,
                    bytes: formatBytes(model.bytes),
                  }),
                  action: t("remove"),
                  run: () => void removeModel(model.id),
                })
              }
            />
          </>
        ) : (
          (download === undefined || download.error !== null) && (
            <Button onClick={() => void fetch(model.id)}>
              {t(model.state === "partial" ? "models.goOn" : "models.download")}
            </Button>
          )
        )}
      </div>
    </li>
  );
}
