import { Pause } from "lucide-react";
import { useApp } from "../../store/app.ts";
import type { Download } from "../../store/state.ts";
import { t } from "../../strings/index.ts";
import { IconButton } from "../../ui/Button.tsx";
import { ErrorNote } from "../../ui/ErrorNote.tsx";
import { Meter } from "../../ui/Meter.tsx";
import { progressLine } from "../chat/WritingView.tsx";
import styles from "./settings.module.css";

/** How far a download has got; it can be paused and goes on where it stopped. */
export function DownloadLine({
  id,
  download: { progress, error },
}: {
  id: string;
  download: Download;
}) {
  const stop = useApp((app) => app.stopDownload);
  if (error !== null) return <ErrorNote error={error} />;
  const line = progress === null ? t("models.begins") : progressLine(progress);
  return (
    <div className={styles.download} role="status">
      <div>
        <p>{line}</p>
        <Meter
          label={t("models.downloading")}
          value={progress?.done ?? 0}
          max={progress?.total ?? null}
          text={line}
        />
      </div>
      <IconButton label={t("models.pause")} icon={<Pause size={15} />} onClick={() => stop(id)} />
    </div>
  );
}
