import { useRef } from "react";
import type { MemorySample } from "../../../contract/memory.ts";
import type { Point, Surface } from "../../draw/surface.ts";
import { formatBytes, formatDuration } from "../../format.ts";
import { t } from "../../strings/index.ts";
import { Canvas } from "../../ui/Canvas.tsx";
import { useColours } from "../../ui/useColours.ts";
import { useSize } from "../../ui/useSize.ts";
import { kindColour } from "./kindColour.ts";
import styles from "./memory.module.css";

const height = 74;
const labels = 64;

/** The engine's memory over the last minutes, its parts on top of one another. */
export function MemoryTimeline({ timeline }: { timeline: readonly MemorySample[] }) {
  const frame = useRef<HTMLDivElement>(null);
  const { width } = useSize(frame);
  const { inkSoft, hairline } = useColours();
  const draw = (surface: Surface) => {
    const stack = stackOf(timeline, Math.max(1, width - labels), height - 16);
    for (const { colour, outline } of stack.areas) surface.area(outline, colour);
    surface.line(
      [
        { x: 0, y: 0.5 },
        { x: width - labels, y: 0.5 },
      ],
      hairline,
      1,
    );
    const text = { colour: inkSoft, size: 11 };
    surface.text(formatBytes(stack.most), { x: width - labels + 6, y: 0 }, text);
    surface.text(
      t("memory.ago", { duration: formatDuration(stack.seconds) }),
      { x: 0, y: height - 13 },
      text,
    );
    surface.text(
      t("memory.now"),
      { x: width - labels, y: height - 13 },
      { ...text, align: "right" },
    );
  };
  if (timeline.length < 2) return null;
  const last = timeline.at(-1)!;
  return (
    <div className={styles.timeline} ref={frame}>
      <Canvas
        width={width}
        height={height}
        draw={draw}
        role="img"
        aria-label={t("memory.timeline", {
          weights: formatBytes(last.weightsBytes),
          kv: formatBytes(last.kvBytes),
        })}
      />
    </div>
  );
}

const parts = [
  { kind: "weights", bytesOf: (sample: MemorySample) => sample.weightsBytes },
  { kind: "workspace", bytesOf: (sample: MemorySample) => sample.workspaceBytes },
  { kind: "kv", bytesOf: (sample: MemorySample) => sample.kvBytes },
  { kind: "kept", bytesOf: (sample: MemorySample) => sample.kvKeptBytes },
  { kind: "digests", bytesOf: (sample: MemorySample) => sample.digestBytes },
] as const;

/** Outlines of the parts, from the bottom up. */
export function stackOf(
  timeline: readonly MemorySample[],
  width: number,
  tall: number,
): { areas: { colour: string; outline: Point[] }[]; most: number; seconds: number } {
  const times = timeline.map(({ at }) => Date.parse(at));
  const begin = times[0] ?? 0;
  const span = Math.max(1, (times.at(-1) ?? 0) - begin);
  const sums = timeline.map((sample) =>
    parts.reduce((sum, { bytesOf }) => sum + bytesOf(sample), 0),
  );
  const most = Math.max(1, ...sums);
  const x = (index: number) => ((times[index]! - begin) / span) * width;
  const y = (bytes: number) => tall - (bytes / most) * tall;
  const below = timeline.map(() => 0);
  const areas = parts.map(({ kind, bytesOf }) => {
    const under = timeline.map((_, index) => ({ x: x(index), y: y(below[index]!) }));
    for (const [index, sample] of timeline.entries()) below[index]! += bytesOf(sample);
    const over = timeline.map((_, index) => ({ x: x(index), y: y(below[index]!) }));
    return { colour: kindColour(kind), outline: [...over, ...under.reverse()] };
  });
  return { areas, most, seconds: span / 1000 };
}
