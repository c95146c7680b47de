import { ChevronUp, Table2 } from "lucide-react";
import { useEffect, useMemo, useRef, useState } from "react";
import type { MemoryMap, MemoryNode } from "../../../contract/memory.ts";
import type { Surface } from "../../draw/surface.ts";
import { drawTreemap, layoutTreemap, type Tile, tileAt } from "../../draw/treemap.ts";
import { formatBytes, formatPercent } from "../../format.ts";
import { useApp } from "../../store/app.ts";
import { t } from "../../strings/index.ts";
import { Button, IconButton } from "../../ui/Button.tsx";
import { Canvas } from "../../ui/Canvas.tsx";
import { Choice } from "../../ui/Choice.tsx";
import { ErrorNote } from "../../ui/ErrorNote.tsx";
import { Remedies } from "../../ui/Remedies.tsx";
import { useColours } from "../../ui/useColours.ts";
import { useSize } from "../../ui/useSize.ts";
import lens from "../lens/lens.module.css";
import { kindColour } from "./kindColour.ts";
import { MemoryTable } from "./MemoryTable.tsx";
import { MemoryTimeline } from "./MemoryTimeline.tsx";
import styles from "./memory.module.css";
import { WhatIf } from "./WhatIf.tsx";

/** The engine's own numbers are asked for this often while they are looked at. */
const refreshMs = 2000;

/** Where the memory goes. */
export function MemoryLens() {
  const memory = useApp((app) => app.memory);
  const error = useApp((app) => app.memoryError);
  const load = useApp((app) => app.loadMemory);
  const isReady = useApp((app) => app.connection === "ready");
  useEffect(() => {
    if (!isReady) return;
    void load();
    const timer = setInterval(() => void load(), refreshMs);
    return () => clearInterval(timer);
  }, [load, isReady]);
  if (error !== null)
    return (
      <div className={lens.message}>
        <ErrorNote error={error}>
          <Remedies error={error} />
        </ErrorNote>
      </div>
    );
  if (memory === null) return <p className={lens.message}>{t("memory.loading")}</p>;
  return <Memory memory={memory} />;
}

function Memory({ memory }: { memory: MemoryMap }) {
  const [scope, setScope] = useState<Scope>("engine");
  const [path, setPath] = useState<readonly string[]>([]);
  const [asTable, setAsTable] = useState(false);
  const [thinks, setThinks] = useState(false);
  const [pointed, setPointed] = useState<readonly string[] | null>(null);
  const whole = scope === "engine" ? engineOnly(memory.root) : memory.root;
  const root = nodeAt(whole, path) ?? whole;
  const shown = pointed === null ? null : nodeAt(root, pointed);
  return (
    <div className={styles.memory}>
      <div className={lens.bar}>
        <IconButton
          label={t("memory.up")}
          icon={<ChevronUp size={16} />}
          disabled={path.length === 0}
          onClick={() => setPath(path.slice(0, -1))}
        />
        <Choice
          label={t("memory.scope")}
          value={scope}
          choices={[
            { value: "engine", label: t("memory.engine") },
            { value: "machine", label: t("memory.machine") },
          ]}
          onChange={(next) => {
            setScope(next);
            setPath([]);
          }}
        />
        <strong>{path.join(" ▸ ")}</strong>
        <span>{formatBytes(root.bytes)}</span>
        <span className={lens.barText} aria-live="off">
          {shown === null || pointed === null
            ? memory.model === null
              ? t("memory.noModel")
              : `${memory.model.name} · ${t("memory.resident", { bytes: formatBytes(memory.residentBytes) })}`
            : t("memory.pointed", {
                name: pointed.join(" ▸ "),
                bytes: formatBytes(shown.bytes),
                share: formatPercent(shown.bytes / (root.bytes || 1)),
              })}
        </span>
        <Button kind="quiet" aria-expanded={thinks} onClick={() => setThinks(!thinks)}>
          {t("memory.whatIf")}
        </Button>
        <IconButton
          label={t("memory.asTable")}
          icon={<Table2 size={16} />}
          aria-pressed={asTable}
          onClick={() => setAsTable(!asTable)}
        />
      </div>
      {thinks && <WhatIf />}
      {root.bytes === 0 ? (
        <p className={lens.message}>{t("memory.nothing")}</p>
      ) : asTable ? (
        <MemoryTable root={root} onOpen={(name) => setPath([...path, name])} />
      ) : (
        <Treemap
          root={root}
          onPoint={setPointed}
          onOpen={(below) => {
            setPointed(null);
            setPath([...path, ...below]);
          }}
        />
      )}
      <MemoryTimeline timeline={memory.timeline} />
    </div>
  );
}

type Scope = "engine" | "machine";

/** Without the rest of the machine, beside which the engine would be a line. */
function engineOnly(root: MemoryNode): MemoryNode {
  const children = (root.children ?? []).filter(
    ({ kind }) => kind !== "free" && kind !== "process",
  );
  return { ...root, children, bytes: children.reduce((sum, { bytes }) => sum + bytes, 0) };
}

function nodeAt(root: MemoryNode, path: readonly string[]): MemoryNode | null {
  let node: MemoryNode | undefined = root;
  for (const name of path) node = node?.children?.find((child) => child.name === name);
  return node ?? null;
}

const levels = 3;

function Treemap({
  root,
  onPoint,
  onOpen,
}: {
  root: MemoryNode;
  onPoint(path: readonly string[] | null): void;
  onOpen(path: readonly string[]): void;
}) {
  const { ink, ground, focus } = useColours();
  const frame = useRef<HTMLDivElement>(null);
  const { width, height } = useSize(frame);
  const [marked, setMarked] = useState<Tile | null>(null);
  const tiles = useMemo(() => layoutTreemap(root, width, height, levels), [root, width, height]);
  const point = (tile: Tile | null) => {
    setMarked(tile);
    onPoint(tile?.path ?? null);
  };
  const draw = (surface: Surface) =>
    drawTreemap(surface, tiles, marked, { ink, ground, focus, colourOf: kindColour });
  const groups = (root.children ?? []).filter(({ children }) => children !== undefined);
  return (
    <div className={styles.treemapFrame}>
      <div ref={frame} className={styles.treemap}>
        <Canvas
          width={width}
          height={height}
          draw={draw}
          role="img"
          aria-label={t("memory.label", {
            parts: (root.children ?? [])
              .map(({ name, bytes }) => `${name} ${formatBytes(bytes)}`)
              .join(", "),
          })}
          onPointerMove={({ nativeEvent: { offsetX, offsetY } }) =>
            point(tileAt(tiles, offsetX, offsetY))
          }
          onPointerLeave={() => point(null)}
          onClick={({ nativeEvent: { offsetX, offsetY } }) => {
            const tile = tileAt(tiles, offsetX, offsetY);
            if (tile === null) return;
            // A leaf opens the group that it stands in.
            const isGroup = tile.node.children !== undefined;
            const path = isGroup ? tile.path : tile.path.slice(0, -1);
            if (path.length > 0) onOpen(path);
          }}
        />
      </div>
      <div className={styles.groups}>
        {groups.map(({ name, kind, bytes }) => (
          <Button key={`${kind}:${name}`} kind="quiet" onClick={() => onOpen([name])}>
            <i style={{ background: kindColour(kind) }} />
            {name} {formatBytes(bytes)}
          </Button>
        ))}
      </div>
    </div>
  );
}
