import { useRef } from "react";
import type { HeadCurves, HeadTable } from "../../../contract/heads.ts";
import { drawChart, roundUp } from "../../draw/chart.ts";
import { blockColour, viridis } from "../../draw/colour.ts";
import { resample, shade } from "../../draw/readMap.ts";
import type { Surface } from "../../draw/surface.ts";
import { formatNumber, formatPercent } from "../../format.ts";
import { traces } from "../../live/traces.ts";
import { useApp } from "../../store/app.ts";
import { t } from "../../strings/index.ts";
import { Canvas } from "../../ui/Canvas.tsx";
import { useColours } from "../../ui/useColours.ts";
import { useSize } from "../../ui/useSize.ts";
import styles from "./heads.module.css";
import { formatMetric } from "./metrics.ts";
import { useMassHistory } from "./useMetricSource.ts";

/** One head: its numbers, what it reads of the document now, and how it was calibrated. */
export function HeadDetail({ table, head }: { table: HeadTable; head: number }) {
  const curves = useApp((app) => app.curves);
  const row = table.heads[head];
  const frame = useRef<HTMLElement>(null);
  const { width } = useSize(frame);
  if (row === undefined) return null;
  return (
    <aside
      className={styles.detail}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: without the focus, keys could not scroll it
      tabIndex={0}
      ref={frame}
      aria-label={t("heads.title", { layer: row.layer, kvHead: row.kvHead })}
    >
      <h3>{t("heads.title", { layer: row.layer, kvHead: row.kvHead })}</h3>
      <dl className={styles.detailNumbers}>
        {profileMetrics.map((metric) => (
          <div key={metric}>
            <dt>{t(`heads.metrics.${metric}`)}</dt>
            <dd>{formatMetric(metric, row[metric])}</dd>
          </div>
        ))}
      </dl>
      <h4>{t("heads.along")}</h4>
      <Along head={head} width={width} />
      <h4>{t("heads.history")}</h4>
      <History head={head} width={width} />
      <h4>{t("heads.mass")}</h4>
      <MassHistory head={head} width={width} />
      {curves !== null && (
        <>
          <h4>{t("heads.curve")}</h4>
          <Curve curves={curves} head={head} chosen={row.blockTokens} width={width} />
          <BudgetCurves curves={curves} head={head} width={width} />
        </>
      )}
    </aside>
  );
}

const profileMetrics = [
  "blockTokens",
  "budgetShare",
  "outputError",
  "recall",
  "retrievalScore",
  "sensitivity",
  "influence",
] as const;

const subscribeMap = (redraw: () => void) => traces.subscribe("maps", redraw);
const subscribeChart = (redraw: () => void) => traces.subscribe("charts", redraw);
const stripHeight = 16;
const chartHeight = 104;

/** What this head reads along the document for the token that is being written. */
function Along({ head, width }: { head: number; width: number }) {
  const { ground } = useColours();
  const draw = (surface: Surface) => {
    surface.fill({ x: 0, y: 0, width, height: stripHeight }, ground);
    const { latest } = traces;
    if (latest === null || latest.headBins === 0) return;
    const { headBins, perHead } = latest;
    const strip = perHead.subarray(head * headBins, (head + 1) * headBins);
    const most = Math.max(...strip);
    for (const [x, value] of resample(strip, Math.floor(width)).entries())
      if (value > 0)
        surface.fill({ x, y: 0, width: 1, height: stripHeight }, viridis(shade(value, most)));
  };
  return (
    <Canvas
      width={width}
      height={stripHeight}
      draw={draw}
      subscribe={subscribeMap}
      role="img"
      aria-label={t("heads.along")}
    />
  );
}

function History({ head, width }: { head: number; width: number }) {
  const colours = useColours();
  const draw = (surface: Surface) => {
    const history = traces.historyOf(head);
    if (history.length === 0) {
      const at = { x: 0, y: chartHeight / 2 };
      surface.text(t("heads.noAnswer"), at, { colour: colours.inkSoft, size: 12 });
      return;
    }
    const first = Math.max(0, traces.steps - history.length);
    drawChart(
      surface,
      [
        {
          name: t("heads.metrics.blocksRead"),
          colour: viridis(colours.isDark ? 0.7 : 0.4),
          points: history.map((y, index) => ({ x: first + index + 1, y })),
        },
      ],
      {
        x: { label: t("heads.step"), least: first + 1, most: Math.max(first + 2, traces.steps) },
        y: { label: t("heads.metrics.blocksRead"), most: roundUp(Math.max(1, ...history)) },
      },
      width,
      chartHeight,
      { ink: colours.inkSoft, hairline: colours.hairline },
    );
  };
  return <LiveChart label={t("heads.history")} width={width} draw={draw} />;
}

/** Drawn anew while an answer is written. */
function LiveChart({
  label,
  width,
  draw,
}: {
  label: string;
  width: number;
  draw(surface: Surface): void;
}) {
  return (
    <Canvas
      width={width}
      height={chartHeight}
      draw={draw}
      subscribe={subscribeChart}
      role="img"
      aria-label={label}
    />
  );
}

/** What the head's reading kept of dense attention, at the steps where it was measured. */
function MassHistory({ head, width }: { head: number; width: number }) {
  const colours = useColours();
  const history = useMassHistory();
  const draw = (surface: Surface) => {
    const points = history().map(({ step, massKept }) => ({ x: step + 1, y: massKept[head] ?? 0 }));
    const last = points.at(-1);
    if (last === undefined) {
      const at = { x: 0, y: chartHeight / 2 };
      surface.text(t("heads.noAnswer"), at, { colour: colours.inkSoft, size: 12 });
      return;
    }
    drawChart(
      surface,
      [
        {
          name: t("heads.metrics.massKept"),
          colour: viridis(colours.isDark ? 0.7 : 0.4),
          points,
          dots: true,
        },
      ],
      {
        x: { label: t("heads.step"), least: 1, most: Math.max(2, last.x) },
        y: { label: "", most: 1, format: formatPercent },
      },
      width,
      chartHeight,
      { ink: colours.inkSoft, hairline: colours.hairline },
    );
  };
  return <LiveChart label={t("heads.mass")} width={width} draw={draw} />;
}

/** Error over the budget, a line for each block size; where all budgets were kept. */
function BudgetCurves({
  curves: { blockTokens, budgetTokens, errorByBudget },
  head,
  width,
}: {
  curves: HeadCurves;
  head: number;
  width: number;
}) {
  const { inkSoft, hairline } = useColours();
  const errors = errorByBudget[head];
  if (errors === undefined) return null;
  const series = blockTokens.map((size, block) => ({
    name: `${size}`,
    colour: blockColour(size),
    points: budgetTokens.map((budget, index) => ({ x: budget, y: errors[block]?.[index] ?? 0 })),
  }));
  const most = Math.max(...budgetTokens);
  const axes = { x: { label: t("heads.budget"), most }, y: { label: "" } };
  const draw = (surface: Surface) =>
    drawChart(surface, series, axes, width, chartHeight, { ink: inkSoft, hairline });
  const words = series
    .map(({ name, points }) => `${name}: ${points.map(({ y }) => formatNumber(y)).join(" ")}`)
    .join("; ");
  return (
    <>
      <h4>{t("heads.budgetCurve")}</h4>
      <Canvas
        width={width}
        height={chartHeight}
        draw={draw}
        role="img"
        aria-label={`${t("heads.budgetCurve")}: ${words}`}
      />
    </>
  );
}

/** Error by block size at the reference budget; the chosen size is filled. */
function Curve({
  curves,
  head,
  chosen,
  width,
}: {
  curves: HeadCurves;
  head: number;
  chosen: number;
  width: number;
}) {
  const { ink, inkSoft, hairline } = useColours();
  const errors = curves.errorByBlock[head] ?? [];
  const most = Math.max(...errors, 1e-9);
  const draw = (surface: Surface) => {
    const bottom = chartHeight - 18;
    const step = width / Math.max(1, errors.length);
    surface.line(
      [
        { x: 0, y: bottom + 0.5 },
        { x: width, y: bottom + 0.5 },
      ],
      hairline,
      1,
    );
    for (const [index, error] of errors.entries()) {
      const size = curves.blockTokens[index]!;
      const height = (error / most) * (bottom - 18);
      const bar = { x: index * step + 6, y: bottom - height, width: step - 12, height };
      surface.fill(bar, blockColour(size));
      if (size === chosen) surface.stroke(bar, ink, 2);
      const centre = index * step + step / 2;
      surface.text(
        formatNumber(error),
        { x: centre, y: bar.y - 3 },
        { colour: inkSoft, size: 11, align: "center", baseline: "bottom" },
      );
      surface.text(
        `${size}`,
        { x: centre, y: bottom + 4 },
        {
          colour: size === chosen ? ink : inkSoft,
          size: 11,
          align: "center",
          weight: size === chosen ? 700 : 400,
        },
      );
    }
  };
  const words = errors
    .map((error, index) => `${curves.blockTokens[index]}: ${formatNumber(error)}`)
    .join(", ");
  return (
    <Canvas
      width={width}
      height={chartHeight}
      draw={draw}
      role="img"
      aria-label={`${t("heads.curve")}: ${words}`}
    />
  );
}
