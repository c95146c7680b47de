/** What the head map shows: one number for each head. */
import type { HeadCurves, HeadTable } from "../../../contract/heads.ts";
import { blockColour, difference, viridis } from "../../draw/colour.ts";
import { formatBytes, formatNumber, formatPercent } from "../../format.ts";
import { bytesByHead, type Reading } from "../../live/traces.ts";
import type { HeadMetric } from "../../store/state.ts";

const readingMetrics = ["bytesRead", "blocksRead", "massKept"] as const;
type ReadingMetric = (typeof readingMetrics)[number];

/** Metrics of what an answer read; the others are the profile's. */
export const isOfReading = (metric: HeadMetric): metric is ReadingMetric =>
  (readingMetrics as readonly HeadMetric[]).includes(metric);

/** Metrics that two profiles can be compared by. */
export const isComparable = (metric: HeadMetric): boolean =>
  !isOfReading(metric) && !["errorSaved", "retrievalScore", "influence"].includes(metric);

export interface MetricSource {
  table: HeadTable;
  curves: HeadCurves | null;
  /** What the answer that is shown read; null before there is one. */
  reading: Reading | null;
  /** Another profile, whose numbers are taken from this one's; null: none. */
  against: HeadTable | null;
}

/** [heads] null where the number is not known. Block sizes are compared in doublings. */
export function metricValues(metric: HeadMetric, source: MetricSource): (number | null)[] {
  const own = ownValues(metric, source);
  if (!isDifference(metric, source)) return own;
  const other = otherValues(metric, source);
  return own.map((value, head) => {
    const compared = other[head] ?? null;
    if (value === null || compared === null) return null;
    return metric === "blockTokens" ? Math.log2(value / compared) : value - compared;
  });
}

/** Whether the map shows the difference of two profiles. */
export const isDifference = (metric: HeadMetric, { against }: MetricSource): boolean =>
  against !== null && isComparable(metric);

function ownValues(
  metric: HeadMetric,
  { table, curves, reading }: MetricSource,
): (number | null)[] {
  if (isOfReading(metric)) return readingValues(metric, table, reading);
  if (metric !== "errorSaved") return table.heads.map((head) => head[metric]);
  return table.heads.map(({ outputError }, head) => {
    const uniform = errorAt(curves, head, uniformBlock);
    return uniform === null || outputError === null ? null : uniform - outputError;
  });
}

/** Blocks of 32 for all were measured along with the profile, though they have none of their own. */
function otherValues(metric: HeadMetric, { curves, against }: MetricSource): (number | null)[] {
  const heads = against?.heads ?? [];
  return heads.map((row, head) =>
    metric === "outputError" && against?.calibrated === false
      ? errorAt(curves, head, uniformBlock)
      : ownOf(row, metric),
  );
}

function ownOf(row: HeadTable["heads"][number], metric: HeadMetric): number | null {
  return metric in row ? (row[metric as keyof typeof row] as number | null) : null;
}

function readingValues(
  metric: ReadingMetric,
  { heads }: HeadTable,
  reading: Reading | null,
): (number | null)[] {
  // What another model read has other heads.
  const values =
    reading === null || reading.blocksRead.length !== heads.length
      ? null
      : {
          bytesRead: bytesByHead(reading),
          blocksRead: reading.blocksRead,
          massKept: reading.massKept,
        }[metric];
  return values === null ? heads.map(() => null) : Array.from(values);
}

const uniformBlock = 32;

/** Output error of a head with blocks of this size; null when it was not measured. */
function errorAt(curves: HeadCurves | null, head: number, blockTokens: number): number | null {
  const column = curves?.blockTokens.indexOf(blockTokens) ?? -1;
  return curves?.errorByBlock[head]?.[column] ?? null;
}

export interface MetricScale {
  least: number;
  most: number;
  colourOf(value: number): string;
}

/** The colours for these values: four steps for block sizes, two sides for differences, else from
 * the least to the largest value. */
export function metricScale(
  metric: HeadMetric,
  values: readonly (number | null)[],
  isOfTwo = false,
): MetricScale {
  const known = values.filter((value): value is number => value !== null && Number.isFinite(value));
  const most = Math.max(...known, 0);
  if (isOfTwo || metric === "errorSaved" || metric === "sensitivity") {
    const reach = Math.max(1e-12, ...known.map(Math.abs));
    return { least: -reach, most: reach, colourOf: (value) => difference(value / reach) };
  }
  if (metric === "blockTokens") return { least: 0, most, colourOf: blockColour };
  const startsAtLeast = metric === "recall" || metric === "massKept";
  const least = startsAtLeast ? Math.min(...known, 1) : 0;
  const span = most - least || 1;
  return { least, most, colourOf: (value) => viridis((value - least) / span) };
}

export function formatMetric(metric: HeadMetric, value: number | null, isOfTwo = false): string {
  if (value === null) return "–";
  if (isOfTwo) return `${value > 0 ? "+" : ""}${formatNumber(value)}`;
  if (metric === "bytesRead") return formatBytes(value);
  if (metric === "massKept" || metric === "retrievalScore") return formatPercent(value);
  return formatNumber(value);
}
