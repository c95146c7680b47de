import { useMemo, useRef, useState } from "react";
import type { Citation } from "../../../contract/answer.ts";
import type { DocumentDetail } from "../../../contract/documents.ts";
import {
  drawReadMap,
  type PageTokens,
  pageAt,
  pageScale,
  planSpread,
  type Spread,
  shareOf,
  spread,
} from "../../draw/readMap.ts";
import type { Surface } from "../../draw/surface.ts";
import { formatCount } from "../../format.ts";
import { traces } from "../../live/traces.ts";
import { useApp, useAppStore } from "../../store/app.ts";
import { queueItemOf, wholeRead } from "../../store/library.ts";
import type { App } from "../../store/state.ts";
import { t } from "../../strings/index.ts";
import { Canvas } from "../../ui/Canvas.tsx";
import { useColours } from "../../ui/useColours.ts";
import { useSize } from "../../ui/useSize.ts";
import styles from "./document.module.css";

const stripWidth = 18;

/** The strip along the document: what was read for an answer, or how much is read so far. */
export function ReadMapStrip({ detail }: { detail: DocumentDetail }) {
  const store = useAppStore();
  const colours = useColours();
  const frame = useRef<HTMLDivElement>(null);
  const { height } = useSize(frame);
  const [pointed, setPointed] = useState<{ y: number; page: number } | null>(null);
  const pages = useApp(pagesOfMap);
  const scale = useMemo(() => pageScale(tokensOfPages(detail, pages ?? [])), [pages, detail]);
  const readScale = useMemo(() => (pages === null ? scale : pageScale(pages)), [pages, scale]);
  const strip = useApp(finishedStrip);
  const isLive = useApp((app) => app.writing !== null && app.writing.turnId === traces.turnId);
  const readShare = useApp(shareRead);
  const citations = useApp(citationsShown);
  const place = useApp((app) => app.place);
  const goTo = useApp((app) => app.goTo);

  const ticks = citations
    .map(({ page, boxes }) => {
      if (page === null) return null;
      const size = detail.pages.find(({ number }) => number === page)?.height;
      const top = boxes.find((box) => box.page === page)?.top ?? 0;
      return shareOf(scale, page, size === undefined ? 0 : top / size);
    })
    .filter((share) => share !== null);
  const begin = shareOf(scale, place.page, place.within) ?? 0;
  const end = Math.max(begin, shareOf(scale, place.page + 1, place.within) ?? 1);

  const plan = useRef<{ of: unknown[]; plan: Spread } | null>(null);
  const values = () => {
    const read = isLive ? traces.mean() : strip;
    if (read === null) return null;
    // The pages stay where they are while an answer is written; only the values move.
    const of = [readScale, scale, height, read.length];
    if (plan.current === null || of.some((part, index) => part !== plan.current?.of[index]))
      plan.current = { of, plan: planSpread(readScale, scale, Math.max(1, height), read.length) };
    return spread(read, plan.current.plan);
  };
  const draw = (surface: Surface) =>
    drawReadMap(
      surface,
      stripWidth,
      height,
      {
        values: values(),
        readShare,
        citations: ticks,
        view: { begin, end },
      },
      {
        ground: colours.ground,
        read: colours.isDark ? "#4a4e55" : "#cfc4b0",
        tick: colours.rubric,
        view: colours.ink,
      },
    );
  const placeAt = (y: number) => pageAt(scale, y / Math.max(1, height));

  return (
    <div
      ref={frame}
      className={styles.readMap}
      role="slider"
      tabIndex={0}
      aria-orientation="vertical"
      aria-label={t("readMap.label")}
      aria-valuemin={1}
      aria-valuemax={detail.documentPages}
      aria-valuenow={place.page}
      aria-valuetext={describe(readScale.pages, readScale.edges, isLive ? null : strip, place.page)}
      onKeyDown={({ key }) => {
        const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 1, PageUp: -1 }[key];
        const { page } = store.getState().place;
        if (step !== undefined && detail.pages.some(({ number }) => number === page + step))
          goTo(page + step);
      }}
      onPointerMove={({ nativeEvent: { offsetY } }) => {
        const at = placeAt(offsetY);
        setPointed(at === null ? null : { y: offsetY, page: at.page });
      }}
      onPointerLeave={() => setPointed(null)}
      onClick={({ nativeEvent: { offsetY } }) => {
        const at = placeAt(offsetY);
        if (at !== null) goTo(at.page, at.within);
      }}
    >
      <Canvas
        width={stripWidth}
        height={height}
        draw={draw}
        subscribe={isLive ? subscribe : undefined}
        aria-hidden="true"
      />
      {pointed !== null && (
        <span className={styles.readMapTip} style={{ top: pointed.y }}>
          {t("citation.page", { page: formatCount(pointed.page) })}
        </span>
      )}
    </div>
  );
}

const subscribe = (redraw: () => void) => traces.subscribe("maps", redraw);

const pagesOfMap = (app: App): PageTokens[] | null => {
  const map = app.focus === null ? undefined : app.readMaps[app.focus.turnId];
  return map?.pages ?? app.context?.pages ?? null;
};

/** Tokens of every page: counted where they were read; elsewhere as many as the text is long, by the
 * letters that a token took on the counted pages. */
function tokensOfPages(detail: DocumentDetail, counted: readonly PageTokens[]): PageTokens[] {
  const known = new Map(counted.map(({ number, tokens }) => [number, tokens]));
  const tokens = counted.reduce((sum, page) => sum + page.tokens, 0);
  const letters = detail.pages
    .filter(({ number }) => known.has(number))
    .reduce((sum, { start, end }) => sum + end - start, 0);
  const tokensPerLetter = letters > 0 && tokens > 0 ? tokens / letters : 1;
  return detail.pages.map(({ number, start, end }) => ({
    number,
    tokens: known.get(number) ?? (end - start) * tokensPerLetter,
  }));
}

function finishedStrip(app: App): Float32Array | null {
  if (app.focus === null) return null;
  const map = app.readMaps[app.focus.turnId];
  if (map === undefined) return null;
  const { sentence } = app.focus;
  return (sentence === null ? undefined : map.sentences[sentence]?.strip) ?? map.whole;
}

function shareRead(app: App): number {
  const entry = app.documents?.find(({ id }) => id === app.document?.id);
  if (entry === undefined) return 0;
  const item = queueItemOf(app, entry.id);
  if (item !== null && item.state !== "done" && item.totalTokens !== null)
    return item.doneTokens / Math.max(1, item.totalTokens);
  return wholeRead(entry) === null ? 0 : 1;
}

const none: readonly Citation[] = [];

const citationsShown = (app: App): readonly Citation[] =>
  app.chat?.tree.find(({ id }) => id === app.focus?.turnId)?.answer?.citations ?? none;

const mostNamed = 3;

/** The pages that were read most, in words. */
function describe(
  pages: readonly PageTokens[],
  edges: readonly number[],
  strip: Float32Array | null,
  page: number,
): string {
  const here = t("citation.page", { page });
  if (strip === null) return here;
  const sums = pages.map(({ number }, index) => {
    const from = Math.floor(edges[index]! * strip.length);
    const to = Math.max(from + 1, Math.ceil(edges[index + 1]! * strip.length));
    return { number, mean: strip.slice(from, to).reduce((a, b) => a + b, 0) / (to - from) };
  });
  const most = sums.sort((a, b) => b.mean - a.mean).slice(0, mostNamed);
  return t("readMap.most", { here, pages: most.map(({ number }) => number).join(", ") });
}
