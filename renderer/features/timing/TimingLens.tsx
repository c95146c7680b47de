import { useEffect, useRef } from "react";
import type { MeasuredRate } from "../../../contract/memory.ts";
import { drawChart, rateCurve, type Series } from "../../draw/chart.ts";
import type { Surface } from "../../draw/surface.ts";
import { formatAgo, formatCount, formatRate } from "../../format.ts";
import { useApp } from "../../store/app.ts";
import { t } from "../../strings/index.ts";
import { Canvas } from "../../ui/Canvas.tsx";
import { ScrollRegion } from "../../ui/ScrollRegion.tsx";
import { useColours } from "../../ui/useColours.ts";
import { useSize } from "../../ui/useSize.ts";
import { AnswerNumbers } from "../chat/Certificate.tsx";
import lens from "../lens/lens.module.css";
import { StepFigure } from "./StepFigure.tsx";
import styles from "./timing.module.css";

const kinds = ["ab-sparse", "dense", "prefill"] as const;

/** How fast this machine was, over the depth of the context. */
export function TimingLens() {
  const rates = useApp((app) => app.rates);
  const load = useApp((app) => app.loadRates);
  const isWriting = useApp((app) => app.writing !== null);
  const isReady = useApp((app) => app.connection === "ready");
  // An answer that has ended brings new numbers.
  useEffect(() => {
    if (isReady && !isWriting) void load();
  }, [load, isReady, isWriting]);
  if (rates === null) return <p className={lens.message}>{t("timing.loading")}</p>;
  return (
    <div className={styles.timing}>
      <div className={styles.charts}>
        {rates.length === 0 ? (
          <p>{t("timing.none")}</p>
        ) : (
          <>
            <RateChart rates={rates} kinds={["ab-sparse", "dense"]} title={t("timing.decode")} />
            <RateChart rates={rates} kinds={["prefill"]} title={t("timing.prefill")} />
          </>
        )}
        <StepFigure />
      </div>
      <ScrollRegion className={styles.side} label={t("timing.numbers")}>
        <FocusedAnswer />
        <RateTable rates={rates} />
      </ScrollRegion>
    </div>
  );
}

type Kind = (typeof kinds)[number];

const colourOf: Record<Kind, string> = {
  "ab-sparse": "#21918c",
  dense: "#b0702a",
  prefill: "#5a68b5",
};

function RateChart({
  rates,
  kinds: shown,
  title,
}: {
  rates: readonly MeasuredRate[];
  kinds: readonly Kind[];
  title: string;
}) {
  const frame = useRef<HTMLDivElement>(null);
  const { width, height } = useSize(frame);
  const { inkSoft, hairline } = useColours();
  const series = shown.map((kind): Series & { kind: Kind } => ({
    kind,
    name: t(`timing.kinds.${kind}`),
    colour: colourOf[kind],
    dots: true,
    isLoose: true,
    points: rates
      .filter(({ what }) => what === kind)
      .map(({ depth, tokensPerSecond }) => ({ x: depth, y: tokensPerSecond }))
      .sort((a, b) => a.x - b.x),
  }));
  const curves = series.flatMap((line) => rateCurves(rates, line));
  const draw = (surface: Surface) =>
    drawChart(
      surface,
      [...series, ...curves],
      {
        x: { label: t("timing.depth"), format: (value) => formatCount(Math.round(value)) },
        y: { label: t("timing.unit"), format: formatRate },
      },
      width,
      height,
      { ink: inkSoft, hairline },
    );
  return (
    <figure className={styles.chart}>
      <figcaption>
        {title}
        {series.length > 1 &&
          series.map(({ kind, name, colour }) => (
            <span key={kind}>
              <i style={{ background: colour }} />
              {name}
            </span>
          ))}
      </figcaption>
      <div ref={frame}>
        <Canvas
          width={width}
          height={height}
          draw={draw}
          role="img"
          aria-label={t("timing.chartLabel", { title })}
        />
      </div>
    </figure>
  );
}

/** The course of the rates over depth as the measurements have it: one curve for each model, between the
 * depths at which it was measured. */
function rateCurves(rates: readonly MeasuredRate[], line: Series & { kind: Kind }): Series[] {
  const ofKind = rates.filter(({ what }) => what === line.kind);
  const models = new Set(ofKind.map(({ model }) => model.fingerprint));
  return [...models].flatMap((fingerprint) => {
    const measured = ofKind.filter(({ model }) => model.fingerprint === fingerprint);
    const points = rateCurve(measured);
    return points.length === 0 ? [] : [{ name: line.name, colour: line.colour, points }];
  });
}

/** The numbers of the answer that is looked at. Their place is kept, so that the table below stays where
 * it is when they come. */
function FocusedAnswer() {
  const answer = useApp(
    (app) => app.chat?.tree.find(({ id }) => id === app.focus?.turnId)?.answer ?? null,
  );
  return (
    <section className={styles.answer} aria-label={t("timing.answer")}>
      <h3>{t("timing.answer")}</h3>
      {answer === null ? <p>{t("timing.noAnswer")}</p> : <AnswerNumbers answer={answer} />}
    </section>
  );
}

function RateTable({ rates }: { rates: readonly MeasuredRate[] }) {
  if (rates.length === 0) return null;
  return (
    <section aria-label={t("timing.measured")}>
      <h3>{t("timing.measured")}</h3>
      <table className={lens.table}>
        <thead>
          <tr>
            <th scope="col">{t("timing.what")}</th>
            <th scope="col">{t("timing.depth")}</th>
            <th scope="col">{t("timing.unit")}</th>
            <th scope="col">{t("timing.when")}</th>
          </tr>
        </thead>
        <tbody>
          {rates.map(({ what, depth, tokensPerSecond, measuredAt, model }) => (
            <tr key={`${what}:${depth}:${measuredAt}:${model.fingerprint}`}>
              <th scope="row">{t(`timing.kinds.${what}`)}</th>
              <td>{formatCount(depth)}</td>
              <td>{formatRate(tokensPerSecond)}</td>
              <td>{formatAgo(measuredAt)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
