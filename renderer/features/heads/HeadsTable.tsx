import { useEffect, useState } from "react";
import type { HeadTable } from "../../../contract/heads.ts";
import { traces } from "../../live/traces.ts";
import { useApp } from "../../store/app.ts";
import { headMetrics } from "../../store/state.ts";
import { t } from "../../strings/index.ts";
import { ScrollRegion } from "../../ui/ScrollRegion.tsx";
import lens from "../lens/lens.module.css";
import { formatMetric, metricValues } from "./metrics.ts";
import { useMetricSource } from "./useMetricSource.ts";

const refreshMs = 500;

/** The map's numbers, for those who read rather than look. */
export function HeadsTable({
  table,
  pinned,
  onPin,
}: {
  table: HeadTable;
  pinned: number | null;
  onPin(head: number): void;
}) {
  const source = useMetricSource(table);
  const toggle = useApp((app) => app.toggleTable);
  const [, refresh] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => refresh(traces.version), refreshMs);
    return () => clearInterval(timer);
  }, []);
  const columns = headMetrics.map((metric) => ({
    metric,
    values: metricValues(metric, { ...source(), against: null }),
  }));
  return (
    <ScrollRegion
      className={lens.tableFrame}
      label={t("heads.asTable")}
      onKeyDown={(event) => {
        if (event.key.toLowerCase() === "t" && !event.ctrlKey && !event.metaKey) toggle();
      }}
    >
      <table className={lens.table}>
        <thead>
          <tr>
            <th scope="col">{t("heads.head")}</th>
            {columns.map(({ metric }) => (
              <th scope="col" key={metric}>
                {t(`heads.metrics.${metric}`)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {table.heads.map(({ layer, kvHead }, head) => (
            <tr key={`${layer}:${kvHead}`} data-current={head === pinned}>
              <th scope="row">
                <button type="button" onClick={() => onPin(head)}>
                  {t("heads.name", { layer, kvHead })}
                </button>
              </th>
              {columns.map(({ metric, values }) => (
                <td key={metric}>{formatMetric(metric, values[head] ?? null)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </ScrollRegion>
  );
}
