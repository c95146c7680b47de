import { memo, useEffect, useMemo, useRef } from "react";
import type { Page } from "../../../contract/documents.ts";
import { useApp } from "../../store/app.ts";
import { t } from "../../strings/index.ts";
import styles from "./document.module.css";
import { type DressedRange, dressMarkdown } from "./markdownDress.ts";
import { type MarkedRange, markedPieces, type Piece } from "./markedPieces.ts";
import { usePageText } from "./usePage.ts";

interface TextSectionProps {
  page: Page;
  width: number;
  zoom: number;
}

/** A section of a text without pages, letter by letter as the model reads it. */
export const TextSection = memo(function TextSection({ page, width, zoom }: TextSectionProps) {
  const { value, error } = usePageText(page.number);
  const ranges = useRanges(page);
  const section = useRef<HTMLElement>(null);
  const goal = useApp((app) => app.goal?.serial);
  const isMarkdown = useApp(
    ({ documents, document }) =>
      documents?.find(({ id }) => id === document?.id)?.kind === "markdown",
  );
  const text = value?.text ?? "";
  const dressed = useMemo(() => (isMarkdown ? dressMarkdown(text) : noDress), [text, isMarkdown]);
  const hasText = value !== null;
  // Where a passage stands in a section is known once its letters are there.
  // biome-ignore lint/correctness/useExhaustiveDependencies: each new goal is gone to once
  useEffect(() => {
    if (!hasText) return;
    section.current?.querySelector("[data-current]")?.scrollIntoView({ block: "center" });
  }, [goal, hasText]);
  return (
    <section
      ref={section}
      className={styles.section}
      style={{ width, fontSize: `${16 * zoom}px` }}
      aria-label={t("document.sectionLabel", { section: page.label })}
    >
      {error !== null && <p className={styles.sheetError}>{error.message}</p>}
      {value !== null &&
        markedPieces(value.text, value.start, ranges, dressed).map((piece) => (
          <PieceView key={piece.start} piece={piece} />
        ))}
    </section>
  );
});

function PieceView({ piece: { text, kind, dresses } }: { piece: Piece }) {
  const dress = dresses.map((name) => styles[name]).join(" ");
  if (kind !== null)
    return (
      <mark
        className={`${styles[kind]} ${dress}`}
        data-current={kind === "found" ? undefined : "true"}
      >
        {text}
      </mark>
    );
  return dress === "" ? text : <span className={dress}>{text}</span>;
}

const noDress: DressedRange[] = [];

function useRanges(page: Page): MarkedRange[] {
  const mark = useApp((app) => app.mark);
  const found = useApp((app) => app.find?.result?.passages);
  const at = useApp((app) => app.find?.at ?? -1);
  const touches = ({ start, end }: { start: number; end: number }) =>
    start < page.end && end > page.start;
  const ranges: MarkedRange[] = [];
  for (const [index, passage] of (found ?? []).entries())
    if (touches(passage))
      ranges.push({
        start: passage.start,
        end: passage.end,
        kind: index === at ? "foundNow" : "found",
      });
  if (mark !== null && touches(mark)) ranges.push({ ...mark, kind: "cited" });
  return ranges;
}
