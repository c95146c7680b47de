import { ChevronsUp, Pause, Play, X } from "lucide-react";
import type { QueueItem } from "../../../contract/queue.ts";
import { formatCount, formatDuration, formatRate } from "../../format.ts";
import { useApp } from "../../store/app.ts";
import { t } from "../../strings/index.ts";
import { IconButton } from "../../ui/Button.tsx";
import { Meter } from "../../ui/Meter.tsx";
import styles from "./prefill.module.css";

/** How far a read has got. */
export function QueueLine({ item, isShort = false }: { item: QueueItem; isShort?: boolean }) {
  const line = isShort ? shortLine(item) : queueText(item);
  return (
    <div className={styles.queueLine}>
      <p>{line}</p>
      <Meter
        label={t("prefill.progress", { title: item.title })}
        value={item.doneTokens}
        max={item.totalTokens}
        text={line}
        isQuiet={item.state !== "reading"}
      />
    </div>
  );
}

/** E.g. "Reading: 1,240 of 18,220 tokens · 348 tokens/s · 49 s left". */
export function queueText(item: QueueItem): string {
  const { state, doneTokens, totalTokens, rate, secondsLeft } = item;
  const parts = [t(`queue.${state}`)];
  if (totalTokens !== null)
    parts.push(
      t("queue.tokens", { done: formatCount(doneTokens), total: formatCount(totalTokens) }),
    );
  if (state === "reading" && rate !== null)
    parts.push(t("progress.rate", { rate: formatRate(rate) }));
  if (state === "reading" && secondsLeft !== null)
    parts.push(t("progress.left", { duration: formatDuration(Math.ceil(secondsLeft)) }));
  return parts.join(" · ");
}

function shortLine({ state, doneTokens, totalTokens, secondsLeft }: QueueItem): string {
  const parts = [t(`queue.${state}`)];
  if (totalTokens !== null && totalTokens > 0)
    parts.push(t("queue.percent", { percent: Math.floor((100 * doneTokens) / totalTokens) }));
  if (state === "reading" && secondsLeft !== null)
    parts.push(formatDuration(Math.ceil(secondsLeft)));
  return parts.join(" · ");
}

export function QueueControls({ item: { id, state } }: { item: QueueItem }) {
  const change = useApp((app) => app.changeQueue);
  const canPause = state === "reading" || state === "waiting" || state === "yielding";
  return (
    <div className={styles.controls}>
      {canPause && (
        <IconButton
          label={t("queue.pause")}
          icon={<Pause size={15} />}
          onClick={() => void change("pause", id)}
        />
      )}
      {state === "paused" && (
        <IconButton
          label={t("queue.resume")}
          icon={<Play size={15} />}
          onClick={() => void change("resume", id)}
        />
      )}
      {state === "waiting" && (
        <IconButton
          label={t("queue.first")}
          icon={<ChevronsUp size={15} />}
          onClick={() => void change("first", id)}
        />
      )}
      <IconButton
        label={t(state === "failed" || state === "done" ? "queue.dismiss" : "queue.cancel")}
        icon={<X size={15} />}
        onClick={() => void change("cancel", id)}
      />
    </div>
  );
}
