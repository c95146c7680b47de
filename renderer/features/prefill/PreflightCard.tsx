import { type ReactNode, useEffect } from "react";
import type { Preflight } from "../../../contract/documents.ts";
import { formatBytes, formatCount, formatDuration, formatRate } from "../../format.ts";
import { useApp, useAppStore } from "../../store/app.ts";
import { queueItemOf, wholeRead } from "../../store/library.ts";
import type { PreflightState } from "../../store/state.ts";
import { t } from "../../strings/index.ts";
import { Button } from "../../ui/Button.tsx";
import { ErrorNote } from "../../ui/ErrorNote.tsx";
import { Meter } from "../../ui/Meter.tsx";
import { Remedies } from "../../ui/Remedies.tsx";
import { progressLine } from "../chat/WritingView.tsx";
import styles from "./prefill.module.css";
import { QueueControls, QueueLine } from "./QueueLine.tsx";

/** Before a document is read: what it holds and what reading it takes. While it is read: how far. */
export function PreflightCard() {
  const item = useApp((app) => (app.document === null ? null : queueItemOf(app, app.document.id)));
  const read = useApp((app) => {
    const entry = app.documents?.find(({ id }) => id === app.document?.id);
    return entry === undefined ? null : wholeRead(entry);
  });
  const preflight = useApp((app) => app.preflight);
  const isOpen = useApp((app) => app.document?.detail != null);
  const isKnown = useApp((app) => app.documents !== null && app.connection === "ready");
  const count = useApp((app) => app.countPreflight);
  const hasFailed = item?.state === "failed";
  const isReading = item !== null && item.state !== "done" && !hasFailed;
  // Why it failed is shown until a person asks for more.
  const isWanted = isOpen && isKnown && !isReading && !hasFailed && read === null;
  const isCounted = preflight !== null;

  useEffect(() => {
    if (isWanted && !isCounted) void count();
  }, [isWanted, isCounted, count]);

  if (isReading)
    return (
      <section className={styles.card} aria-label={t("prefill.title")}>
        <h3>{item.title}</h3>
        <QueueLine item={item} />
        <QueueControls item={item} />
        <p className={styles.note}>{t("prefill.askMeanwhile")}</p>
      </section>
    );
  if (hasFailed && item.error !== null && !isCounted)
    return (
      <ErrorNote error={item.error}>
        <Remedies error={item.error} />
        <Button onClick={() => void count()}>{t("preflight.again")}</Button>
      </ErrorNote>
    );
  if (preflight === null) return null;
  return <PreflightOf preflight={preflight} />;
}

function PreflightOf({ preflight: { progress, value, error } }: { preflight: PreflightState }) {
  const count = useApp((app) => app.countPreflight);
  if (error !== null)
    return (
      <ErrorNote error={error}>
        <Remedies error={error} />
        <Button onClick={() => void count()}>{t("preflight.again")}</Button>
      </ErrorNote>
    );
  if (value === null) {
    const line = progress === null ? t("preflight.begins") : progressLine(progress);
    return (
      <section className={styles.card} aria-label={t("preflight.title")} aria-busy="true">
        <p className={styles.note}>{line}</p>
        <Meter
          label={t("preflight.title")}
          value={progress?.done ?? 0}
          max={progress?.total ?? null}
          text={line}
          isQuiet
        />
      </section>
    );
  }
  return <PreflightNumbers value={value} />;
}

function PreflightNumbers({ value }: { value: Preflight }) {
  return (
    <section className={styles.card} aria-label={t("preflight.title")}>
      <h3>{t(value.fits ? "preflight.heading" : "preflight.tooLong")}</h3>
      <p className={styles.summary}>{value.report.summary}</p>
      {value.report.notes.map((note) => (
        <p key={note} className={styles.warning}>
          {note}
        </p>
      ))}
      <ContextBar value={value} />
      <dl className={styles.facts}>
        <Fact name={t("preflight.tokens")}>
          {formatCount(value.documentTokens)}
          {value.cachedTokens > 0 && (
            <small>{t("preflight.cached", { tokens: formatCount(value.cachedTokens) })}</small>
          )}
        </Fact>
        <Fact name={t("preflight.time")}>
          {value.readSeconds === null
            ? t("preflight.unmeasured")
            : t("about", { amount: formatDuration(value.readSeconds) })}
          {value.readSeconds !== null && (
            <small>{t("preflight.measured", { count: value.measurements })}</small>
          )}
        </Fact>
        <Fact name={t("preflight.speed")}>
          <AnswerRates value={value} />
        </Fact>
        <Fact name={t("preflight.model")}>{`${value.model.name} · ${value.model.device}`}</Fact>
      </dl>
      <MemoryBar value={value} />
      {value.problem !== null && (
        <ErrorNote error={value.problem}>
          <Remedies error={value.problem} />
        </ErrorNote>
      )}
      <ReadButton value={value} />
    </section>
  );
}

const Fact = ({ name, children }: { name: string; children: ReactNode }) => (
  <div>
    <dt>{name}</dt>
    <dd>{children}</dd>
  </div>
);

/** Tokens per second of answers at that depth, where they were measured. */
function AnswerRates({ value: { answerRates } }: { value: Preflight }) {
  const measured = answerRates.filter(({ tokensPerSecond }) => tokensPerSecond !== null);
  if (measured.length === 0) return t("preflight.unmeasured");
  return measured.map(({ mode, tokensPerSecond }) => (
    <span key={mode} className={styles.rate}>
      {t(`preflight.rate.${mode}`, { rate: formatRate(tokensPerSecond ?? 0) })}
    </span>
  ));
}

/** The document beside the model's context. */
function ContextBar({ value }: { value: Preflight }) {
  const { documentTokens, aroundTokens, answerTokens, contextTokens } = value;
  const needed = documentTokens + aroundTokens + answerTokens;
  const total = Math.max(contextTokens, needed);
  // What does not fit comes last, whatever it is.
  const over = Math.max(0, needed - contextTokens);
  const document = Math.min(documentTokens + aroundTokens, needed - over);
  return (
    <figure className={styles.bar}>
      <div aria-hidden="true">
        <i style={{ width: share(document, total) }} data-part="document" />
        <i style={{ width: share(needed - over - document, total) }} data-part="answer" />
        <i style={{ width: share(over, total) }} data-part="over" />
      </div>
      <figcaption>
        {t("preflight.context", {
          used: formatCount(documentTokens + aroundTokens),
          answer: formatCount(answerTokens),
          total: formatCount(contextTokens),
        })}
      </figcaption>
    </figure>
  );
}

function MemoryBar({ value: { memory } }: { value: Preflight }) {
  const { weightsBytes, workspaceBytes, kvBytes, freeBytes, diskBytes, freeDiskBytes } = memory;
  const total = weightsBytes + workspaceBytes + kvBytes + freeBytes;
  return (
    <figure className={styles.bar}>
      <div aria-hidden="true">
        <i style={{ width: share(weightsBytes, total) }} data-part="weights" />
        <i style={{ width: share(workspaceBytes, total) }} data-part="workspace" />
        <i style={{ width: share(kvBytes, total) }} data-part="kv" />
      </div>
      <figcaption>
        {t("preflight.memory", {
          weights: formatBytes(weightsBytes),
          kv: formatBytes(kvBytes),
          workspace: formatBytes(workspaceBytes),
          free: formatBytes(freeBytes),
        })}
        <br />
        {t("preflight.disk", { bytes: formatBytes(diskBytes), free: formatBytes(freeDiskBytes) })}
      </figcaption>
    </figure>
  );
}

const share = (part: number, total: number): string => `${(100 * part) / (total || 1)}%`;

/** Pages to read, and the one button. */
function ReadButton({ value }: { value: Preflight }) {
  const store = useAppStore();
  const pages = useApp((app) => app.pagesToRead);
  const { setPagesToRead, countPreflight, startReading } = store.getState();
  const isCounted = useApp((app) => app.preflight?.pages === pages.trim());
  return (
    <form
      className={styles.start}
      onSubmit={(event) => {
        event.preventDefault();
        if (isCounted && value.fits) void startReading(value.document.id, pages.trim());
        else void countPreflight();
      }}
    >
      <label>
        {t("preflight.pages")}
        <input
          value={pages}
          placeholder={t("preflight.allPages", { count: value.documentPages })}
          onChange={(event) => setPagesToRead(event.target.value)}
        />
      </label>
      {!isCounted ? (
        <Button kind="primary" type="submit">
          {t("preflight.count")}
        </Button>
      ) : value.fits ? (
        <Button kind="primary" type="submit">
          {t("preflight.read", {
            // The few tokens around the document were read with it.
            tokens: formatCount(Math.max(0, value.documentTokens - value.cachedTokens)),
          })}
        </Button>
      ) : (
        value.fittingPages !== null && (
          <Button
            kind="primary"
            onClick={() => {
              setPagesToRead(value.fittingPages ?? "");
              void countPreflight();
            }}
          >
            {t("preflight.fitting", { pages: value.fittingPages.replaceAll("-", "–") })}
          </Button>
        )
      )}
    </form>
  );
}
