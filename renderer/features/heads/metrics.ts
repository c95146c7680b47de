/** What the head map shows: one number for each head. */
import type { HeadCurves, HeadTable } from "../../../contract/heads.ts";
import type { TraceFrame } from "../../../contract/trace.ts";
import { blockColour, difference, viridis } from "../../draw/colour.ts";
import { formatBytes, formatNumber } from "../../format.ts";
import { bytesByHead } from "../../live/traces.ts";
import type { HeadMetric } from "../../store/lens.ts";

/** Metrics of the step that is being decoded; the others are the profile's. */
export const isLive = (metric: HeadMetric): boolean =>
  metric === "bytesRead" || metric === "blocksRead";

export interface MetricSource {
  table: HeadTable;
  curves: HeadCurves | null;
  /** The last step of the answer; null before the first. */
  trace: TraceFrame | null;
}

/** [heads] null where the number is not known. */
export function metricValues(
  metric: HeadMetric,
  { table, curves, trace }: MetricSource,
): (number | null)[] {
  const { heads } = table;
  // A trace of another model has other heads.
  const fits = trace !== null && trace.blocksRead.length === heads.length;
  switch (metric) {
    case "blockTokens":
    case "budgetShare":
    case "outputError":
    case "recall":
    case "sensitivity":
      return heads.map((head) => head[metric]);
    case "errorSaved":
      return heads.map(({ outputError }, index) => {
        const uniform = errorAt(curves, index, uniformBlock);
        return uniform === null || outputError === null ? null : uniform - outputError;
      });
    case "blocksRead":
      return fits ? [...trace.blocksRead] : heads.map(() => null);
    case "bytesRead":
      return fits ? [...bytesByHead(trace)] : heads.map(() => null);
  }
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
export function metricScale(metric: HeadMetric, values: readonly (number | null)[]): MetricScale {
  const known = values.filter((value): value is number => value !== null && Number.isFinite(value));
  const most = Math.max(...known, 0);
  if (metric === "blockTokens") return { least: 0, most, colourOf: blockColour };
  if (metric === "errorSaved" || metric === "sensitivity") {
    const reach = Math.max(1e-12, ...known.map(Math.abs));
    return { least: -reach, most: reach, colourOf: (value) => difference(value / reach) };
  }
  const least = metric === "recall" ? Math.min(...known, 1) : 0;
  const span = most - least || 1;
  return { least, most, colourOf: (value) => viridis((value - least) / span) };
}

export function formatMetric(metric: HeadMetric, value: number | null): string {
  if (value === null) return "–";
  if (metric === "bytesRead") return formatBytes(value);
  return formatNumber(value);
}
