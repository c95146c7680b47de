/** The head map as files. */
import type { HeadTable } from "../../../contract/heads.ts";
import { type HeadMetric, headMetrics } from "../../store/state.ts";
import { type MetricSource, metricValues } from "./metrics.ts";

export type ExportKind = "png" | "svg" | "csv" | "json";

/** A row for each head, a column for each metric; empty where a number is not known. */
export function headsCsv(source: MetricSource): string {
  const { table } = source;
  const columns = columnsOf(source);
  const rows = table.heads.map(({ layer, kvHead }, index) =>
    [layer, kvHead, ...columns.map(({ values }) => values[index] ?? "")].join(","),
  );
  const names = columns.map(({ metric }) => metric);
  return `${[["layer", "kvHead", ...names].join(","), ...rows].join("\n")}\n`;
}

export function headsJson(source: MetricSource): string {
  const { table } = source;
  const columns = columnsOf(source);
  const heads = table.heads.map(({ layer, kvHead }, index) => ({
    layer,
    kvHead,
    ...Object.fromEntries(columns.map(({ metric, values }) => [metric, values[index] ?? null])),
  }));
  const { model, fingerprint, profile, calibrated, layers, kvHeads, reference } = table;
  const whole = { model, fingerprint, profile, calibrated, layers, kvHeads, reference, heads };
  return `${JSON.stringify(whole, null, 2)}\n`;
}

/** The profile's own numbers, whatever the map compares them with. */
function columnsOf(source: MetricSource) {
  return headMetrics.map((metric: HeadMetric) => ({
    metric,
    values: metricValues(metric, { ...source, against: null }),
  }));
}

/** A name for the file that says what is in it. */
export function exportName(table: HeadTable, metric: HeadMetric, kind: ExportKind): string {
  const model = table.model.replace(/[^\w.-]+/g, "-");
  const what = kind === "csv" || kind === "json" ? "heads" : `heads-${metric}`;
  return `${model}-${what}.${kind}`;
}
