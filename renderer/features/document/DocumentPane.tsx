import { ListTree, Minus, Plus, Search } from "lucide-react";
import { useEffect, useState } from "react";
import type { DocumentDetail } from "../../../contract/documents.ts";
import { formatCount, formatPercent } from "../../format.ts";
import { useApp, useAppStore } from "../../store/app.ts";
import { queueItemOf } from "../../store/library.ts";
import { t } from "../../strings/index.ts";
import { Button, IconButton } from "../../ui/Button.tsx";
import { ErrorNote } from "../../ui/ErrorNote.tsx";
import { Meter } from "../../ui/Meter.tsx";
import { Remedies } from "../../ui/Remedies.tsx";
import { progressLine } from "../chat/WritingView.tsx";
import { Welcome } from "../library/Welcome.tsx";
import styles from "./document.module.css";
import { FindBar } from "./FindBar.tsx";
import { Outline } from "./Outline.tsx";
import { Pages } from "./Pages.tsx";
import { ReadMapStrip } from "./ReadMapStrip.tsx";

/** The document: its pages, and beside them what was read of it. */
export function DocumentPane() {
  const document = useApp((app) => app.document);
  if (document === null)
    return (
      <section className={styles.pane} aria-label={t("document.title")}>
        <Welcome />
      </section>
    );
  return (
    <section className={styles.pane} aria-label={t("document.title")}>
      {document.detail === null ? (
        <Opening />
      ) : (
        <OpenDocument key={document.id} detail={document.detail} />
      )}
    </section>
  );
}

function Opening() {
  const progress = useApp((app) => app.document?.progress ?? null);
  const error = useApp((app) => app.document?.error ?? null);
  if (error !== null)
    return (
      <div className={styles.opening}>
        <ErrorNote error={error}>
          <Remedies error={error} />
        </ErrorNote>
      </div>
    );
  if (progress === null) return null;
  const line = progressLine(progress);
  return (
    <div className={styles.opening} role="status">
      <p>{line}</p>
      <Meter label={t("document.opening")} value={progress.done} max={progress.total} text={line} />
    </div>
  );
}

function OpenDocument({ detail }: { detail: DocumentDetail }) {
  const isFinding = useApp((app) => app.find !== null);
  const showsOutline = useApp((app) => app.outlineOpen) && detail.outline.length > 0;
  return (
    <>
      <Toolbar detail={detail} />
      {isFinding && <FindBar />}
      <ReadingLine />
      <div className={styles.body}>
        {showsOutline && <Outline detail={detail} />}
        <Pages detail={detail} />
        <ReadMapStrip detail={detail} />
      </div>
    </>
  );
}

function Toolbar({ detail }: { detail: DocumentDetail }) {
  const store = useAppStore();
  const zoom = useApp((app) => app.zoom);
  const outlineOpen = useApp((app) => app.outlineOpen);
  const isFinding = useApp((app) => app.find !== null);
  const { setZoom, toggleOutline, openFind, closeFind } = store.getState();
  return (
    <header className={styles.toolbar}>
      {detail.outline.length > 0 && (
        <IconButton
          label={t("document.outline")}
          icon={<ListTree size={16} />}
          aria-pressed={outlineOpen}
          onClick={toggleOutline}
        />
      )}
      <PageField detail={detail} />
      <div className={styles.toolbarEnd}>
        <IconButton
          label={t("document.smaller")}
          keys="Ctrl+-"
          icon={<Minus size={16} />}
          onClick={() => setZoom(zoom / 1.2)}
        />
        <Button kind="quiet" onClick={() => setZoom(1)}>
          <span className="visuallyHidden">{t("document.fit")}: </span>
          {formatPercent(Math.round(zoom * 100) / 100)}
        </Button>
        <IconButton
          label={t("document.larger")}
          keys="Ctrl+="
          icon={<Plus size={16} />}
          onClick={() => setZoom(zoom * 1.2)}
        />
        <IconButton
          label={t("document.find")}
          keys="Ctrl+F"
          icon={<Search size={16} />}
          aria-pressed={isFinding}
          onClick={isFinding ? closeFind : openFind}
        />
      </div>
    </header>
  );
}

/** The page in view, by its printed number; another one can be typed. */
function PageField({ detail }: { detail: DocumentDetail }) {
  const page = useApp((app) => app.place.page);
  const goTo = useApp((app) => app.goTo);
  const label = detail.pages.find(({ number }) => number === page)?.label ?? `${page}`;
  const [typed, setTyped] = useState<string | null>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: scrolling elsewhere ends the typing
  useEffect(() => setTyped(null), [page]);
  const go = () => {
    const target = typed === null ? null : pageNamed(detail, typed);
    if (target !== null) goTo(target);
    setTyped(null);
  };
  return (
    <form
      className={styles.pageField}
      onSubmit={(event) => {
        event.preventDefault();
        go();
      }}
    >
      <label>
        <span>{t(detail.hasLayout ? "document.page" : "document.section")}</span>
        <input
          id="page"
          value={typed ?? label}
          size={Math.max(3, (typed ?? label).length)}
          inputMode="numeric"
          onChange={(event) => setTyped(event.target.value)}
          onFocus={(event) => event.target.select()}
          onBlur={() => setTyped(null)}
        />
      </label>
      <span>
        {label === `${page}`
          ? t("document.pageOf", { of: formatCount(detail.documentPages) })
          : t("document.labelOf", { page, of: formatCount(detail.documentPages) })}
      </span>
    </form>
  );
}

/** The page with this printed number, else with this place in the file. */
export function pageNamed(detail: DocumentDetail, name: string): number | null {
  const label = name.trim();
  const printed = detail.pages.find((page) => page.label.toLowerCase() === label.toLowerCase());
  if (printed !== undefined) return printed.number;
  const number = Number(label);
  return detail.pages.some((page) => page.number === number) ? number : null;
}

/** A thin line above the pages while they are being read. */
function ReadingLine() {
  const item = useApp((app) => (app.document === null ? null : queueItemOf(app, app.document.id)));
  if (item === null || item.totalTokens === null) return null;
  if (item.state === "done" || item.state === "failed") return null;
  return (
    <div className={styles.readingLine}>
      <Meter
        label={t("prefill.progress", { title: item.title })}
        value={item.doneTokens}
        max={item.totalTokens}
        text={t("queue.tokens", {
          done: formatCount(item.doneTokens),
          total: formatCount(item.totalTokens),
        })}
        isQuiet={item.state !== "reading"}
      />
    </div>
  );
}
