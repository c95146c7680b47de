import { useVirtualizer } from "@tanstack/react-virtual";
import { useCallback, useEffect, useLayoutEffect, useRef } from "react";
import type { DocumentDetail, Page } from "../../../contract/documents.ts";
import { useApp, useAppStore } from "../../store/app.ts";
import { t } from "../../strings/index.ts";
import { ScrollRegion } from "../../ui/ScrollRegion.tsx";
import { useSize } from "../../ui/useSize.ts";
import styles from "./document.module.css";
import { PageSheet } from "./PageSheet.tsx";
import { SelectionBar } from "./SelectionBar.tsx";
import { TextSection } from "./TextSection.tsx";

const gap = 14;
const side = 20;
/** Of a page as wide as fits, in pixels: wider lines tire the eye. */
const widest = 900;
/** Sections are about this long before they have been laid out. */
const sectionHeight = 900;
/** US letter, for pages whose size is not known. */
const usual = { width: 612, height: 792 };
/** Where a passage comes to stand, from the top of the view. */
const passageAt = 0.3;

/** All pages below one another; only those near the view exist. */
export function Pages({ detail }: { detail: DocumentDetail }) {
  const store = useAppStore();
  const zoom = useApp((app) => app.zoom);
  const goal = useApp((app) => app.goal);
  const frame = useRef<HTMLElement>(null);
  const { width } = useSize(frame);
  const pageWidth = Math.max(120, Math.min(widest, width - 2 * side) * zoom);
  const heightOf = useCallback(
    (index: number) =>
      detail.hasLayout ? pageHeight(detail.pages[index]!, pageWidth) : sectionHeight,
    [detail, pageWidth],
  );
  const list = useVirtualizer({
    count: detail.pages.length,
    getScrollElement: () => frame.current,
    estimateSize: heightOf,
    gap,
    paddingStart: gap,
    paddingEnd: gap,
    overscan: 2,
  });

  // A page keeps its place in the view when its size changes.
  const measured = useRef(pageWidth);
  useLayoutEffect(() => {
    if (measured.current === pageWidth) return;
    measured.current = pageWidth;
    const { place } = store.getState();
    list.measure();
    const index = detail.pages.findIndex(({ number }) => number === place.page);
    const start = list.getOffsetForIndex(Math.max(0, index), "start")?.[0] ?? 0;
    frame.current?.scrollTo({ top: start - gap + place.within * heightOf(Math.max(0, index)) });
  }, [pageWidth, list, store, detail, heightOf]);

  const reached = useRef(-1);
  useEffect(() => {
    if (goal === null || width === 0 || goal.serial === reached.current) return;
    reached.current = goal.serial;
    const index = detail.pages.findIndex(({ number }) => number === goal.page);
    if (index === -1) return;
    const start = list.getOffsetForIndex(index, "start")?.[0] ?? 0;
    const page = detail.pages[index]!;
    const box = goal.boxes.find((candidate) => candidate.page === goal.page);
    const scale = pageWidth / (page.width ?? usual.width);
    const inside = box === undefined ? goal.within * heightOf(index) : box.top * scale;
    const view = frame.current?.clientHeight ?? 0;
    const above = box === undefined ? 0 : view * passageAt;
    frame.current?.scrollTo({ top: Math.max(0, start - gap + inside - above) });
    // Sections have their real height only once they are there.
    if (!detail.hasLayout) list.scrollToIndex(index, { align: "start" });
  }, [goal, width, pageWidth, list, detail, heightOf]);

  const scrolled = useRef<number | null>(null);
  const notePlace = () => {
    scrolled.current ??= requestAnimationFrame(() => {
      scrolled.current = null;
      const top = (frame.current?.scrollTop ?? 0) + gap;
      const item = list.getVirtualItems().find(({ end }) => end > top);
      if (item === undefined) return;
      const within = Math.min(1, Math.max(0, (top - gap - item.start) / item.size));
      store.getState().setPlace({ page: detail.pages[item.index]!.number, within });
    });
  };

  return (
    <ScrollRegion
      className={styles.pages}
      ref={frame}
      label={t("document.pages")}
      onScroll={notePlace}
    >
      <div
        style={{
          height: list.getTotalSize(),
          minWidth: pageWidth + 2 * side,
          position: "relative",
        }}
      >
        {list.getVirtualItems().map(({ index, start }) => {
          const page = detail.pages[index]!;
          return (
            <div
              key={page.number}
              data-index={index}
              ref={detail.hasLayout ? undefined : list.measureElement}
              className={styles.pageFrame}
              style={{ transform: `translateY(${start}px)` }}
            >
              {detail.hasLayout ? (
                <PageSheet page={page} width={pageWidth} height={heightOf(index)} />
              ) : (
                <TextSection page={page} width={pageWidth} zoom={zoom} />
              )}
            </div>
          );
        })}
      </div>
      <SelectionBar container={frame} />
    </ScrollRegion>
  );
}

export const pageHeight = (page: Page, width: number): number =>
  (width * (page.height ?? usual.height)) / (page.width ?? usual.width);
