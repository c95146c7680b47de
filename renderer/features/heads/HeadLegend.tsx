import { useEffect, useState } from "react";
import type { HeadTable } from "../../../contract/heads.ts";
import { blockColour, inkOn } from "../../draw/colour.ts";
import { traces } from "../../live/traces.ts";
import { useApp } from "../../store/app.ts";
import type { HeadMetric } from "../../store/state.ts";
import { t } from "../../strings/index.ts";
import styles from "./heads.module.css";
import { formatMetric, isDifference, isOfReading, metricScale, metricValues } from "./metrics.ts";
import { useMetricSource } from "./useMetricSource.ts";

/** What the colours mean. */
export function HeadLegend({ table, metric }: { table: HeadTable; metric: HeadMetric }) {
  const isAlone = useApp((app) => app.otherHeads === null);
  if (metric === "blockTokens" && isAlone) return <BlockLegend table={table} />;
  return <ScaleLegend table={table} metric={metric} />;
}

function BlockLegend({ table }: { table: HeadTable }) {
  return (
    <ul className={styles.legend} aria-label={t("heads.legend")}>
      {table.histogram.map(({ blockTokens, heads }) => {
        const colour = blockColour(blockTokens);
        return (
          <li key={blockTokens}>
            <i style={{ background: colour, color: inkOn(colour) }}>{blockTokens}</i>
            {t("heads.count", { count: heads })}
          </li>
        );
      })}
    </ul>
  );
}

const stops = 9;

function ScaleLegend({ table, metric }: { table: HeadTable; metric: HeadMetric }) {
  const source = useMetricSource(table);
  const [, refresh] = useState(0);
  useEffect(() => {
    if (!isOfReading(metric)) return;
    return traces.subscribe("charts", () => refresh(traces.version));
  }, [metric]);
  const now = source();
  const values = metricValues(metric, now);
  const isOfTwo = isDifference(metric, now);
  if (values.every((value) => value === null))
    return (
      <p className={styles.legendNote}>
        {t(isOfReading(metric) ? "heads.noAnswer" : "heads.notCalibrated")}
      </p>
    );
  const { least, most, colourOf } = metricScale(metric, values, isOfTwo);
  const colours = Array.from({ length: stops }, (_, index) =>
    colourOf(least + ((most - least) * index) / (stops - 1)),
  );
  return (
    <div className={styles.scale}>
      <span>{formatMetric(metric, least, isOfTwo)}</span>
      <i style={{ background: `linear-gradient(90deg, ${colours.join(",")})` }} />
      <span>{formatMetric(metric, most, isOfTwo)}</span>
    </div>
  );
}
