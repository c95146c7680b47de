import { Download, Table2 } from "lucide-react";
import { type KeyboardEvent, useEffect, useMemo, useRef, useState } from "react";
import type { HeadTable } from "../../../contract/heads.ts";
import {
  drawHeads,
  gridSize,
  type HeadGrid,
  type HeadMapStyle,
  headAt,
  headBeside,
  layoutHeads,
} from "../../draw/headMap.ts";
import { CanvasSurface, type Surface, SvgSurface } from "../../draw/surface.ts";
import { traces } from "../../live/traces.ts";
import { useApp, useAppStore } from "../../store/app.ts";
import {
  type ComparedProfile,
  comparedProfiles,
  type HeadMetric,
  headMetrics,
} from "../../store/state.ts";
import { t } from "../../strings/index.ts";
import { Button, IconButton } from "../../ui/Button.tsx";
import { Canvas } from "../../ui/Canvas.tsx";
import { ErrorNote } from "../../ui/ErrorNote.tsx";
import { Menu, MenuItem } from "../../ui/Menu.tsx";
import { Remedies } from "../../ui/Remedies.tsx";
import { useColours } from "../../ui/useColours.ts";
import { useSize } from "../../ui/useSize.ts";
import lens from "../lens/lens.module.css";
import { type ExportKind, exportName, headsCsv, headsJson } from "./exports.ts";
import { HeadDetail } from "./HeadDetail.tsx";
import { HeadLegend } from "./HeadLegend.tsx";
import { HeadsTable } from "./HeadsTable.tsx";
import styles from "./heads.module.css";
import {
  formatMetric,
  isComparable,
  isDifference,
  isOfReading,
  metricScale,
  metricValues,
} from "./metrics.ts";
import { useMetricSource } from "./useMetricSource.ts";

/** All heads of the model at once. */
export function HeadsLens() {
  const heads = useApp((app) => app.heads);
  const error = useApp((app) => app.headsError);
  const load = useApp((app) => app.loadHeads);
  const isReady = useApp((app) => app.connection === "ready");
  const isWanted = heads === null && error === null && isReady;
  useEffect(() => {
    if (isWanted) void load();
  }, [isWanted, load]);
  if (error !== null)
    return (
      <div className={lens.message}>
        <ErrorNote error={error}>
          <Remedies error={error} />
          <Button onClick={() => void load()}>{t("remedy.retry")}</Button>
        </ErrorNote>
      </div>
    );
  if (heads === null) return <p className={lens.message}>{t("heads.loading")}</p>;
  return <HeadMap table={heads} />;
}

function HeadMap({ table }: { table: HeadTable }) {
  const asTable = useApp((app) => app.asTable);
  const pinned = useApp((app) => app.pinnedHead);
  const pin = useApp((app) => app.pinHead);
  const [pointed, setPointed] = useState<number | null>(null);
  const shown = pointed ?? pinned;
  return (
    <div className={styles.heads}>
      <HeadsBar table={table} />
      <div className={styles.body}>
        {asTable ? (
          <HeadsTable table={table} pinned={pinned} onPin={pin} />
        ) : (
          <HeadCanvas table={table} pointed={pointed} onPoint={setPointed} />
        )}
        {shown !== null && <HeadDetail table={table} head={shown} />}
      </div>
    </div>
  );
}

function HeadsBar({ table }: { table: HeadTable }) {
  const metric = useApp((app) => app.metric);
  const setMetric = useApp((app) => app.setMetric);
  const asTable = useApp((app) => app.asTable);
  const toggleTable = useApp((app) => app.toggleTable);
  return (
    <div className={lens.bar}>
      <label className={lens.select}>
        <span className="visuallyHidden">{t("heads.metric")}</span>
        <select value={metric} onChange={(event) => setMetric(event.target.value as HeadMetric)}>
          {headMetrics.map((name) => (
            <option key={name} value={name}>
              {t(`heads.metrics.${name}`)}
            </option>
          ))}
        </select>
      </label>
      <HeadLegend table={table} metric={metric} />
      {table.calibrated && isComparable(metric) && <ComparedProfileMenu />}
      <span className={lens.barText}>
        {t(table.calibrated ? "heads.profile" : "heads.uncalibrated", { profile: table.profile })}
      </span>
      <IconButton
        label={t("heads.asTable")}
        keys="T"
        icon={<Table2 size={16} />}
        aria-pressed={asTable}
        onClick={toggleTable}
      />
      <ExportMenu table={table} />
    </div>
  );
}

/** The profile whose numbers are taken from those of the one in use. */
function ComparedProfileMenu() {
  const compared = useApp((app) => app.comparedProfile);
  const compare = useApp((app) => app.compareHeads);
  const hasChosen = useApp((app) => app.settings.profile !== null);
  const choices = comparedProfiles.filter((name) => name !== "own" || hasChosen);
  return (
    <label className={lens.select}>
      <span className="visuallyHidden">{t("heads.against")}</span>
      <select
        value={compared}
        onChange={(event) => void compare(event.target.value as ComparedProfile)}
      >
        {choices.map((name) => (
          <option key={name} value={name}>
            {t(`heads.compared.${name}`)}
          </option>
        ))}
      </select>
    </label>
  );
}

/** Colour of each head; null where there is nothing to show. */
function useHeadColours(table: HeadTable, metric: HeadMetric) {
  const source = useMetricSource(table);
  return useMemo(() => {
    const colours = () => {
      const now = source();
      const values = metricValues(metric, now);
      const scale = metricScale(metric, values, isDifference(metric, now));
      return values.map((value) => (value === null ? null : scale.colourOf(value)));
    };
    // What does not change with the step is worked out once.
    const still = isOfReading(metric) ? null : colours();
    return () => still ?? colours();
  }, [metric, source]);
}

function HeadCanvas({
  table,
  pointed,
  onPoint,
}: {
  table: HeadTable;
  pointed: number | null;
  onPoint(head: number | null): void;
}) {
  const store = useAppStore();
  const metric = useApp((app) => app.metric);
  const pinned = useApp((app) => app.pinnedHead);
  const { pinHead, toggleTable } = store.getState();
  const style = useMapStyle();
  const frame = useRef<HTMLDivElement>(null);
  const { width, height } = useSize(frame);
  const grid = layoutHeads(table.layers, table.kvHeads, width, height);
  const size = gridSize(grid);
  const colours = useHeadColours(table, metric);
  const marked = [pinned, pointed].filter((head) => head !== null);
  const draw = (surface: Surface) => drawHeads(surface, grid, colours(), marked, style);
  const current = pointed ?? pinned;

  const onKeyDown = (event: KeyboardEvent) => {
    const step = arrows[event.key];
    if (step !== undefined) {
      event.preventDefault();
      onPoint(current === null ? 0 : headBeside(grid, current, step[0], step[1]));
    } else if (event.key === "Enter") {
      pinHead(current === pinned ? null : current);
    } else if (event.key.toLowerCase() === "t" && !event.ctrlKey && !event.metaKey) {
      toggleTable();
    } else if (event.key === "Escape" && current !== null) {
      event.stopPropagation();
      onPoint(null);
      pinHead(null);
    }
  };

  return (
    <div
      ref={frame}
      className={styles.canvasFrame}
      role="application"
      // biome-ignore lint/a11y/noNoninteractiveTabindex: an application takes keys of its own
      tabIndex={0}
      aria-label={t("heads.mapLabel", {
        layers: table.layers,
        kvHeads: table.kvHeads,
        metric: t(`heads.metrics.${metric}`),
      })}
      aria-describedby="headSaid"
      onKeyDown={onKeyDown}
      onBlur={() => onPoint(null)}
    >
      <Canvas
        width={size.width}
        height={size.height}
        draw={draw}
        subscribe={isOfReading(metric) ? subscribe : undefined}
        onPointerMove={(event) => onPoint(headUnder(grid, event))}
        onPointerLeave={() => onPoint(null)}
        onClick={(event) => {
          const head = headUnder(grid, event);
          pinHead(head === pinned ? null : head);
        }}
      />
      <p id="headSaid" className="visuallyHidden" aria-live="polite">
        {current === null ? t("heads.keys") : <HeadWords table={table} head={current} />}
      </p>
    </div>
  );
}

function HeadWords({ table, head }: { table: HeadTable; head: number }) {
  const metric = useApp((app) => app.metric);
  const source = useMetricSource(table);
  const row = table.heads[head];
  if (row === undefined) return null;
  const now = source();
  const value = metricValues(metric, now)[head] ?? null;
  return t("heads.words", {
    layer: row.layer,
    kvHead: row.kvHead,
    metric: t(`heads.metrics.${metric}`),
    value: formatMetric(metric, value, isDifference(metric, now)),
  });
}

const subscribe = (redraw: () => void) => traces.subscribe("maps", redraw);

const arrows: Record<string, readonly [number, number]> = {
  ArrowRight: [1, 0],
  ArrowLeft: [-1, 0],
  ArrowDown: [0, 1],
  ArrowUp: [0, -1],
};

const headUnder = (
  grid: HeadGrid,
  { nativeEvent: { offsetX, offsetY } }: { nativeEvent: { offsetX: number; offsetY: number } },
): number | null => headAt(grid, offsetX, offsetY);

function useMapStyle(): HeadMapStyle {
  const { inkSoft, ground, focus } = useColours();
  return { ink: inkSoft, ground, focus };
}

/** Of an exported map, in pixels; pictures have two for each. */
const exported = { width: 1200, height: 800, scale: 2 };

function ExportMenu({ table }: { table: HeadTable }) {
  const store = useAppStore();
  const metric = useApp((app) => app.metric);
  const colours = useHeadColours(table, metric);
  const source = useMetricSource(table);
  const style = useMapStyle();
  const { paper } = useColours();
  const save = async (kind: ExportKind) => {
    const { saveFile } = store.getState();
    const grid = layoutHeads(table.layers, table.kvHeads, exported.width, exported.height);
    const size = gridSize(grid);
    const draw = (surface: Surface) => {
      surface.fill({ x: 0, y: 0, ...size }, paper);
      drawHeads(surface, grid, colours(), [], style);
    };
    const contents = {
      png: () => png(size, draw),
      svg: () => svg(size, draw),
      csv: () => headsCsv(source()),
      json: () => headsJson(source()),
    };
    await saveFile(exportName(table, metric, kind), await contents[kind]());
  };
  return (
    <Menu
      align="end"
      trigger={<IconButton label={t("heads.export")} icon={<Download size={16} />} />}
    >
      {exportKinds.map((kind) => (
        <MenuItem key={kind} onSelect={() => void save(kind)}>
          {t(`heads.exports.${kind}`)}
        </MenuItem>
      ))}
    </Menu>
  );
}

const exportKinds = ["png", "svg", "csv", "json"] as const;

type Size = { width: number; height: number };

function svg({ width, height }: Size, draw: (surface: Surface) => void): string {
  const surface = new SvgSurface(width, height);
  draw(surface);
  return surface.toString();
}

async function png(
  { width, height }: Size,
  draw: (surface: Surface) => void,
): Promise<Uint8Array<ArrayBuffer>> {
  const canvas = document.createElement("canvas");
  canvas.width = width * exported.scale;
  canvas.height = height * exported.scale;
  const context = canvas.getContext("2d")!;
  context.scale(exported.scale, exported.scale);
  draw(new CanvasSurface(context));
  const blob = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, "image/png"));
  return new Uint8Array(await blob!.arrayBuffer());
}
