/** A decode step as columns: one for each layer, its stages on top of one another, each with the least
 * time that its bytes can take. */
import { type DecodeStage, decodeStages, type StageTime } from "../../contract/timing.ts";
import { formatNumber } from "../format.ts";
import { roundUp } from "./chart.ts";
import { viridis } from "./colour.ts";
import type { Surface } from "./surface.ts";

/** A stage means the same colour in both themes. */
export const stageColour = (stage: DecodeStage): string =>
  viridis(decodeStages.indexOf(stage) / (decodeStages.length - 1));

export interface StepColumn {
  /** A layer, or a stage that belongs to none. */
  name: string;
  parts: { stage: DecodeStage; seconds: number }[];
  /** Of its bytes at the memory's rate; null: not known. */
  floorSeconds: number | null;
}

export function stepColumns(
  stages: readonly StageTime[],
  bytesPerSecond: number | null,
): StepColumn[] {
  const columns = new Map<string, StageTime[]>();
  for (const time of stages) {
    const isAlone = time.stage === "embed" || time.stage === "logits";
    const name = isAlone ? time.stage : `${time.layer}`;
    columns.set(name, [...(columns.get(name) ?? []), time]);
  }
  return [...columns].map(([name, times]) => ({
    name,
    parts: times.map(({ stage, seconds }) => ({ stage, seconds })),
    floorSeconds: floorSeconds(times, bytesPerSecond),
  }));
}

/** The least time that reading the bytes of these stages can take. */
export function floorSeconds(
  stages: readonly StageTime[],
  bytesPerSecond: number | null,
): number | null {
  if (bytesPerSecond === null) return null;
  return stages.reduce((sum, { bytes }) => sum + bytes, 0) / bytesPerSecond;
}

export const secondsOf = (parts: readonly { seconds: number }[]): number =>
  parts.reduce((sum, { seconds }) => sum + seconds, 0);

const margin = { left: 44, top: 16, bottom: 18 };
const labelSize = 11;

export interface StepBarsStyle {
  ink: string;
  inkSoft: string;
  hairline: string;
}

export function drawStepBars(
  surface: Surface,
  columns: readonly StepColumn[],
  width: number,
  height: number,
  style: StepBarsStyle,
  names: { unit: string },
): void {
  const most = roundUp(Math.max(1e-9, ...columns.map(({ parts }) => 1000 * secondsOf(parts))));
  const bottom = height - margin.bottom;
  const perMs = (bottom - margin.top) / most;
  const step = (width - margin.left) / Math.max(1, columns.length);
  const text = { colour: style.inkSoft, size: labelSize };
  surface.text(names.unit, { x: 0, y: 0 }, text);
  for (const share of [0, 0.5, 1]) {
    const y = Math.round(bottom - share * most * perMs) + 0.5;
    surface.line(
      [
        { x: margin.left, y },
        { x: width, y },
      ],
      style.hairline,
      1,
    );
    const at = { x: margin.left - 6, y };
    surface.text(formatNumber(share * most), at, { ...text, align: "right", baseline: "middle" });
  }
  for (const [index, { name, parts, floorSeconds: floor }] of columns.entries()) {
    const x = margin.left + index * step;
    let y = bottom;
    for (const { stage, seconds } of parts) {
      const tall = 1000 * seconds * perMs;
      y -= tall;
      surface.fill({ x: x + 1, y, width: Math.max(1, step - 2), height: tall }, stageColour(stage));
    }
    if (floor !== null) {
      const at = bottom - 1000 * floor * perMs;
      surface.line(
        [
          { x, y: at },
          { x: x + step, y: at },
        ],
        style.ink,
        1.5,
      );
    }
    if (columns.length * 26 > width - margin.left && index % 4 !== 1 && name !== "logits") continue;
    surface.text(name, { x: x + step / 2, y: bottom + 4 }, { ...text, align: "center" });
  }
}
