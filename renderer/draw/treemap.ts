/** A tree of bytes as nested rectangles: every rectangle is as large as its bytes. */
import { hierarchy, treemap, treemapSquarify } from "d3-hierarchy";
import type { MemoryNode } from "../../contract/memory.ts";
import { formatBytes } from "../format.ts";
import { inkOn } from "./colour.ts";
import type { Rect, Surface } from "./surface.ts";

export interface Tile extends Rect {
  node: MemoryNode;
  /** Names from the root's child down to this node. */
  path: readonly string[];
  /** Below the root: 1, 2, … */
  depth: number;
  isLeaf: boolean;
}

const header = 17;
/** Smaller groups show their ground without a name. */
const headerFrom = { width: 48, height: 40 };

/** Tiles of all nodes below the root, parents before their children.
 * @param levels how many levels below the root are divided */
export function layoutTreemap(
  root: MemoryNode,
  width: number,
  height: number,
  levels: number,
): Tile[] {
  const tree = hierarchy(root, (node) => node.children);
  // A pruned group keeps its bytes: they equal its children's together.
  tree.each((node) => {
    if (node.depth >= levels) delete node.children;
  });
  tree.eachAfter((node) => {
    const own = node.children === undefined ? node.data.bytes : 0;
    const below = node.children?.reduce((sum, child) => sum + (child.value ?? 0), 0) ?? 0;
    Object.assign(node, { value: own + below });
  });
  const layout = treemap<MemoryNode>()
    .size([Math.max(0, width), Math.max(0, height)])
    .tile(treemapSquarify)
    .paddingInner(1)
    .paddingOuter((node) => (node.depth === 0 ? 0 : 1))
    .paddingTop((node) => (node.depth > 0 && hasHeader(node) ? header : node.depth === 0 ? 0 : 1))
    .round(true);
  return layout(tree)
    .descendants()
    .filter((node) => node.depth > 0)
    .map((node) => ({
      node: node.data,
      path: node
        .ancestors()
        .reverse()
        .slice(1)
        .map((ancestor) => ancestor.data.name),
      depth: node.depth,
      isLeaf: node.children === undefined,
      x: node.x0,
      y: node.y0,
      width: node.x1 - node.x0,
      height: node.y1 - node.y0,
    }));
}

const hasHeader = (node: unknown): boolean => {
  const { x0, x1, y0, y1 } = node as { x0: number; x1: number; y0: number; y1: number };
  return x1 - x0 >= headerFrom.width && y1 - y0 >= headerFrom.height;
};

/** @returns the deepest tile at a point */
export const tileAt = (tiles: readonly Tile[], x: number, y: number): Tile | null =>
  tiles.findLast(
    (tile) => x >= tile.x && y >= tile.y && x < tile.x + tile.width && y < tile.y + tile.height,
  ) ?? null;

export interface TreemapStyle {
  ink: string;
  ground: string;
  focus: string;
  /** Colour of a node's kind. */
  colourOf: (kind: MemoryNode["kind"]) => string;
}

export function drawTreemap(
  surface: Surface,
  tiles: readonly Tile[],
  marked: Tile | null,
  style: TreemapStyle,
): void {
  for (const tile of tiles) {
    if (tile.isLeaf) drawLeaf(surface, tile, style);
    else drawGroup(surface, tile, style);
  }
  if (marked !== null) surface.stroke(marked, style.focus, 2);
}

function drawLeaf(surface: Surface, tile: Tile, style: TreemapStyle): void {
  const colour = style.colourOf(tile.node.kind);
  surface.fill(tile, colour);
  if (tile.width < 30 || tile.height < 16) return;
  const ink = inkOn(colour);
  const at = { x: tile.x + 5, y: tile.y + 3 };
  const maxWidth = tile.width - 8;
  surface.text(tile.node.name, at, { colour: ink, size: 11.5, weight: 600, maxWidth });
  if (tile.height < 34) return;
  const below = { x: at.x, y: at.y + 14 };
  surface.text(formatBytes(tile.node.bytes), below, { colour: ink, size: 11, maxWidth });
}

function drawGroup(surface: Surface, tile: Tile, style: TreemapStyle): void {
  surface.fill(tile, style.ground);
  if (tile.width < headerFrom.width || tile.height < headerFrom.height) return;
  surface.text(
    tile.node.name,
    { x: tile.x + 4, y: tile.y + 2 },
    { colour: style.ink, size: 11.5, weight: 600, maxWidth: tile.width - 8 },
  );
  const name = tile.node.name.length * 7;
  surface.text(
    formatBytes(tile.node.bytes),
    { x: tile.x + tile.width - 4, y: tile.y + 2 },
    { colour: style.ink, size: 11, align: "right", maxWidth: tile.width - 12 - name },
  );
}
