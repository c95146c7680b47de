import { HoverCard } from "radix-ui";
import { createContext, useContext } from "react";
import type { Citation } from "../../../contract/answer.ts";
import { formatNumber } from "../../format.ts";
import { useApp } from "../../store/app.ts";
import { t } from "../../strings/index.ts";
import styles from "./chat.module.css";

export interface NumberedCitation {
  /** From 1, in the order of the answer. */
  number: number;
  citation: Citation;
}

export interface CitedTurn {
  turnId: string;
  /** Pages that the question was asked of: characters count in their text. */
  pages: string | null;
  citations: readonly NumberedCitation[];
}

/** Numbers in the order of the sentences; within one, quotations before what was attended to. */
export function numberCitations(citations: readonly Citation[]): NumberedCitation[] {
  return citations
    .map((citation, index) => ({ citation, index }))
    .sort(
      (a, b) =>
        a.citation.sentence - b.citation.sentence ||
        Number(a.citation.from === "attention") - Number(b.citation.from === "attention") ||
        a.index - b.index,
    )
    .map(({ citation }, place) => ({ number: place + 1, citation }));
}

export const CitedTurnContext = createContext<CitedTurn | null>(null);

/** The numbers after a sentence. */
export function CitationMarks({ index }: { index: number }) {
  const turn = useContext(CitedTurnContext);
  if (turn === null) return null;
  const cited = turn.citations.filter(({ citation }) => citation.sentence === index);
  if (cited.length === 0) return null;
  return (
    <span className={styles.cites}>
      {cited.map((numbered) => (
        <CitationMark key={numbered.number} numbered={numbered} turn={turn} />
      ))}
    </span>
  );
}

export function CitationMark({
  numbered: { number, citation },
  turn,
}: {
  numbered: NumberedCitation;
  turn: CitedTurn;
}) {
  const show = useApp((app) => app.showCitation);
  const focusOn = useApp((app) => app.focusOn);
  return (
    <HoverCard.Root openDelay={150} closeDelay={100}>
      <HoverCard.Trigger asChild>
        <button
          type="button"
          className={[styles.cite, citation.verified ? "" : styles.citeMissing].join(" ")}
          aria-label={t(citation.verified ? "citation.label" : "citation.labelMissing", {
            number,
            page: citation.page ?? "–",
          })}
          onClick={() => show(citation, turn.pages)}
          onFocus={() => focusOn(turn.turnId, citation.sentence)}
        >
          {number}
        </button>
      </HoverCard.Trigger>
      <HoverCard.Portal>
        <HoverCard.Content className={styles.card} sideOffset={6} collisionPadding={12}>
          <CitationCard citation={citation} />
        </HoverCard.Content>
      </HoverCard.Portal>
    </HoverCard.Root>
  );
}

export function CitationCard({ citation }: { citation: Citation }) {
  return (
    <>
      <blockquote className={styles.cardQuote}>{citation.quote}</blockquote>
      <p className={citation.verified ? styles.cardSource : styles.cardMissing}>
        {citation.page !== null && <PageName page={citation.page} />}
        {howFound(citation)}
      </p>
    </>
  );
}

/** A page by its place in the file, and its printed number where that is another. */
export function PageName({ page }: { page: number }) {
  const label = useApp(
    (app) => app.document?.detail?.pages.find(({ number }) => number === page)?.label,
  );
  const isSame = label === undefined || label === `${page}`;
  return (
    <strong>
      {isSame ? t("citation.page", { page }) : t("citation.labelledPage", { page, label })}
    </strong>
  );
}

/** How a passage was found, in words. */
export function howFound({ verified, from, match, score }: Citation): string {
  if (!verified) return t("citation.missing");
  if (from === "attention")
    return score === undefined
      ? t("citation.attended")
      : t("citation.attendedBy", { times: formatNumber(score) });
  return t(`citation.${match ?? "exact"}`);
}
