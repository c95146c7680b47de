import { BadgeCheck, CircleDashed, TriangleAlert } from "lucide-react";
import type { Answer, Coverage } from "../../../contract/answer.ts";
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatPercent,
  formatRanges,
  formatRate,
} from "../../format.ts";
import { t } from "../../strings/index.ts";
import { Button } from "../../ui/Button.tsx";
import styles from "./chat.module.css";

/** What of the document an answer was made from: one line, which opens to the numbers. */
export function Certificate({ answer, onTiming }: { answer: Answer; onTiming(): void }) {
  const { coverage } = answer;
  return (
    <details className={styles.certificate}>
      <summary>
        <CoverageSign coverage={coverage} />
        <span>{coverageLine(coverage)}</span>
      </summary>
      <AnswerNumbers answer={answer} />
      {answer.notices.map((notice) => (
        <p key={notice} className={styles.notice}>
          {notice}
        </p>
      ))}
      <Button kind="quiet" onClick={onTiming}>
        {t("certificate.toTiming")}
      </Button>
    </details>
  );
}

const isWhole = ({ tokensInContext, documentTokens }: Coverage): boolean =>
  tokensInContext === documentTokens;

function CoverageSign({ coverage }: { coverage: Coverage }) {
  if (!isWhole(coverage)) return <TriangleAlert size={15} className={styles.signBad} aria-hidden />;
  if (coverage.readSoFar) return <CircleDashed size={15} className={styles.signPart} aria-hidden />;
  return <BadgeCheck size={15} className={styles.signGood} aria-hidden />;
}

export function coverageLine(coverage: Coverage): string {
  const { tokensInContext, documentTokens, pages, documentPages, readSoFar } = coverage;
  const tokens = t("certificate.tokens", {
    read: formatCount(tokensInContext),
    of: formatCount(documentTokens),
  });
  const key = readSoFar ? "certificate.pagesSoFar" : "certificate.pages";
  return [
    tokens,
    t(key, {
      pages: pages.replaceAll("-", "–"),
      of: formatCount(documentPages),
      count: documentPages,
    }),
    isWhole(coverage) ? modeLine(coverage) : t("certificate.cut"),
  ].join(" · ");
}

const modeLine = ({ budgetTokens }: Coverage): string =>
  budgetTokens === null ? t("mode.dense") : t("mode.sparse", { budget: formatCount(budgetTokens) });

/** The numbers of an answer, each with its name. */
export function AnswerNumbers({ answer }: { answer: Answer }) {
  return (
    <dl className={styles.numbers}>
      {certificateRows(answer).map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function certificateRows({ coverage, timing, memory, model }: Answer): [string, string][] {
  const bytes = coverage.kvBytesPerToken + coverage.digestBytesPerToken;
  const rows: [string, string][] = [
    [t("certificate.model"), `${model.name} · ${model.device}`],
    [t("certificate.mode"), `${modeLine(coverage)} (${coverage.profile})`],
    [
      t("certificate.bytes"),
      t("certificate.bytesOf", {
        bytes: formatBytes(bytes),
        share: formatPercent(bytes / (coverage.denseBytesPerToken || 1)),
        dense: formatBytes(coverage.denseBytesPerToken),
      }),
    ],
    [
      t("certificate.prefill"),
      timing.prefillTokens === 0
        ? t("certificate.nothing")
        : t("certificate.rate", {
            tokens: formatCount(timing.prefillTokens),
            duration: formatDuration(timing.prefillSeconds),
            rate: formatRate(timing.prefillTokensPerSecond),
          }),
    ],
    [
      t("certificate.cached"),
      t("certificate.cachedFrom", {
        memory: formatCount(timing.cachedInMemory),
        disk: formatCount(timing.cachedOnDisk),
      }),
    ],
    [
      t("certificate.decode"),
      t("certificate.rateAt", {
        tokens: formatCount(timing.decodeTokens),
        duration: formatDuration(timing.decodeSeconds),
        rate: formatRate(timing.decodeTokensPerSecond),
        depth: formatCount(timing.depth),
      }),
    ],
    [t("certificate.firstToken"), formatDuration(timing.firstTokenSeconds)],
    [
      t("certificate.memory"),
      t("certificate.memoryOf", {
        kv: formatBytes(memory.kvBytes),
        digests: formatBytes(memory.digestBytes),
        weights: formatBytes(memory.weightsBytes),
      }),
    ],
  ];
  if (coverage.pagesWithoutText.length > 0)
    rows.push([t("certificate.withoutText"), formatRanges(coverage.pagesWithoutText)]);
  return rows;
}
