/** Axes and curves: rates over depth, memory over time, a head's history. */
import { type DepthRate, secondsOverDepth } from "../../contract/timing.ts";
import { formatNumber } from "../format.ts";
import type { Point, Rect, Surface } from "./surface.ts";

export interface Series {
  name: string;
  colour: string;
  /** In the units of the axes, x ascending. */
  points: readonly Point[];
  /** Draws a dot at each point: for few, measured values. */
  dots?: boolean;
  /** Draws no line: for values that are not steps of one course. */
  isLoose?: boolean;
}

export interface ChartStyle {
  ink: string;
  hairline: string;
}

export interface ChartAxes {
  x: { label: string; format?: (value: number) => string; least?: number; most?: number };
  y: { label: string; format?: (value: number) => string; most?: number };
}

const margin = { left: 52, right: 14, top: 20, bottom: 32 };
const labelSize = 11;

export interface ChartScale {
  plot: Rect;
  most: Point;
  least: Point;
  toPixel: (point: Point) => Point;
}

export function chartScale(
  series: readonly Series[],
  axes: ChartAxes,
  width: number,
  height: number,
): ChartScale {
  const points = series.flatMap((line) => line.points);
  const xs = points.map((point) => point.x);
  const least = { x: axes.x.least ?? 0, y: 0 };
  const most = {
    x: axes.x.most ?? roundUp(Math.max(least.x + 1e-9, ...xs)),
    y: axes.y.most ?? roundUp(Math.max(1e-9, ...points.map((point) => point.y))),
  };
  const plot = {
    x: margin.left,
    y: margin.top,
    width: Math.max(1, width - margin.left - margin.right),
    height: Math.max(1, height - margin.top - margin.bottom),
  };
  const toPixel = ({ x, y }: Point): Point => ({
    x: plot.x + ((x - least.x) / (most.x - least.x || 1)) * plot.width,
    y: plot.y + plot.height - ((y - least.y) / (most.y - least.y || 1)) * plot.height,
  });
  return { plot, most, least, toPixel };
}

const curvePoints = 33;

/** Rates between the least and the largest depth that was measured; none where there is but one. */
export function rateCurve(measured: readonly DepthRate[]): Point[] {
  const secondsAt = secondsOverDepth(measured);
  const depths = measured.map(({ depth }) => depth);
  const [least, most] = [Math.min(...depths), Math.max(...depths)];
  if (secondsAt === null || most <= least) return [];
  return Array.from({ length: curvePoints }, (_, index) => {
    const x = least + ((most - least) * index) / (curvePoints - 1);
    return { x, y: 1 / secondsAt(x) };
  });
}

/** The next 1, 2, 2.5, 4, 5 or 8 times a power of ten. */
export function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([1, 2, 2.5, 4, 5, 8, 10].find((step) => value <= step * power * 1.000001) ?? 10);
}

export function drawChart(
  surface: Surface,
  series: readonly Series[],
  axes: ChartAxes,
  width: number,
  height: number,
  style: ChartStyle,
): void {
  const scale = chartScale(series, axes, width, height);
  drawGrid(surface, scale, axes, style);
  for (const line of series) {
    const pixels = line.points.map(scale.toPixel);
    if (pixels.length > 1 && !line.isLoose) surface.line(pixels, line.colour, 1.75);
    if (line.dots || pixels.length === 1)
      for (const { x, y } of pixels)
        surface.fill({ x: x - 3, y: y - 3, width: 6, height: 6 }, line.colour);
  }
}

function drawGrid(surface: Surface, scale: ChartScale, axes: ChartAxes, style: ChartStyle): void {
  const { plot, least, most } = scale;
  const text = { colour: style.ink, size: labelSize };
  const formatY = axes.y.format ?? formatNumber;
  const formatX = axes.x.format ?? formatNumber;
  for (let step = 0; step <= 4; step++) {
    const value = least.y + ((most.y - least.y) * step) / 4;
    const y = Math.round(scale.toPixel({ x: least.x, y: value }).y) + 0.5;
    surface.line(
      [
        { x: plot.x, y },
        { x: plot.x + plot.width, y },
      ],
      style.hairline,
      1,
    );
    surface.text(
      formatY(value),
      { x: plot.x - 6, y },
      { ...text, align: "right", baseline: "middle" },
    );
  }
  for (let step = 0; step <= 4; step++) {
    const value = least.x + ((most.x - least.x) * step) / 4;
    const { x } = scale.toPixel({ x: value, y: 0 });
    const align = step === 0 ? "left" : step === 4 ? "right" : "center";
    surface.text(formatX(value), { x, y: plot.y + plot.height + 4 }, { ...text, align });
  }
  surface.text(axes.y.label, { x: 4, y: 2 }, text);
  surface.text(
    axes.x.label,
    { x: plot.x + plot.width, y: plot.y + plot.height + 30 },
    { ...text, align: "right", baseline: "bottom" },
  );
}
