import { Square } from "lucide-react";
import { memo } from "react";
import type { Progress } from "../../../contract/stream.ts";
import { formatCount, formatDuration, formatRate } from "../../format.ts";
import { useApp } from "../../store/app.ts";
import type { Writing } from "../../store/state.ts";
import { t } from "../../strings/index.ts";
import { Button } from "../../ui/Button.tsx";
import { Keys } from "../../ui/Keys.tsx";
import { Meter } from "../../ui/Meter.tsx";
import styles from "./chat.module.css";
import { GrowingMarkdown } from "./Markdown.tsx";

/** The answer that is being written. */
export function WritingView({ writing }: { writing: Writing }) {
  const { question, text, notices } = writing;
  return (
    <article
      className={[styles.turn, styles.writing].join(" ")}
      aria-label={question}
      aria-busy="true"
    >
      <header className={styles.question}>
        <h3>{question}</h3>
      </header>
      {notices.map((notice) => (
        <p key={notice} className={styles.notice}>
          {notice}
        </p>
      ))}
      {text !== "" && <GrowingMarkdown text={text} />}
    </article>
  );
}

/** Below the turns and not among them, so that nothing moves while the text grows. */
export function WritingFoot() {
  const writing = useApp((app) => app.writing);
  if (writing === null) return null;
  const { text, tokens, progress, stopping } = writing;
  return (
    <footer className={styles.writingFoot}>
      <ProgressLine progress={progress} tokens={text === "" ? 0 : tokens} isStopping={stopping} />
      <StopButton isStopping={stopping} />
    </footer>
  );
}

const StopButton = memo(function StopButton({ isStopping }: { isStopping: boolean }) {
  const stop = useApp((app) => app.stopAnswer);
  return (
    <Button icon={<Square size={12} fill="currentColor" />} onClick={stop} disabled={isStopping}>
      {t("turn.stop")}
      <Keys keys="Escape" />
    </Button>
  );
});

function ProgressLine({
  progress,
  tokens,
  isStopping,
}: {
  progress: Progress | null;
  tokens: number;
  isStopping: boolean;
}) {
  const line = isStopping
    ? t("turn.stopping")
    : tokens > 0
      ? t("turn.writing", { count: tokens, tokens: formatCount(tokens) })
      : progress === null
        ? t("turn.waiting")
        : progressLine(progress);
  const showsMeter = tokens === 0 && progress !== null && progress.total > 0;
  return (
    <div className={styles.progress} role="status">
      <p>{line}</p>
      {showsMeter && (
        <Meter label={t("progress.label")} value={progress.done} max={progress.total} text={line} />
      )}
    </div>
  );
}

/** What is being done, how far it has got, how fast, and how long it will take. */
export function progressLine({ phase, done, total, unit, rate, secondsLeft }: Progress): string {
  const counts = { done: formatCount(done), total: formatCount(total) };
  const amount =
    unit === "percent"
      ? t("progress.percent", counts)
      : unit === "bytes"
        ? t("progress.megabytes", { done: megabytes(done), total: megabytes(total) })
        : t(`progress.of.${unit}`, counts);
  const parts = [`${t(`phase.${phase}`)}: ${amount}`];
  if (rate !== null && unit === "tokens")
    parts.push(t("progress.rate", { rate: formatRate(rate) }));
  if (secondsLeft !== null && secondsLeft >= 1 && phase !== "decode")
    parts.push(t("progress.left", { duration: formatDuration(Math.ceil(secondsLeft)) }));
  return parts.join(" · ");
}

const megabytes = (bytes: number): string => formatCount(Math.round(bytes / 1e6));
