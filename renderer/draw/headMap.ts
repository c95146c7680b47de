/** The grid of a model's heads: layers × KV heads. A head is named by its index, layer-major, as in
 * trace frames and head tables. */
import type { Rect, Surface } from "./surface.ts";

export interface HeadGrid {
  layers: number;
  kvHeads: number;
  /** Whether layers run from left to right (the grid lies) or from top to bottom (it stands). */
  lies: boolean;
  columns: number;
  rows: number;
  /** Of a cell's side; cells are squares where there is room. */
  cellWidth: number;
  cellHeight: number;
  /** Top left corner of the first cell. */
  left: number;
  top: number;
}

/** Room for the numbers along the axes. */
const axis = { left: 26, top: 18 };
const largestCell = 46;
const smallestCell = 3;
/** Cells may be half as high as wide, so that many heads still fill a wide, low pane. */
const flattest = 0.5;

/** The orientation and cell size that show the heads largest in so much room. */
export function layoutHeads(
  layers: number,
  kvHeads: number,
  width: number,
  height: number,
): HeadGrid {
  const lying = gridIn(layers, kvHeads, true, width, height);
  const standing = gridIn(layers, kvHeads, false, width, height);
  return area(lying) >= area(standing) ? lying : standing;
}

const area = (grid: HeadGrid): number => grid.cellWidth * grid.cellHeight;

function gridIn(
  layers: number,
  kvHeads: number,
  lies: boolean,
  width: number,
  height: number,
): HeadGrid {
  const columns = lies ? layers : kvHeads;
  const rows = lies ? kvHeads : layers;
  const across = Math.floor((width - axis.left) / columns);
  const down = Math.floor((height - axis.top) / rows);
  const cellWidth = clampCell(Math.min(across, down / flattest));
  const cellHeight = clampCell(Math.min(down, across / flattest, largestCell));
  return {
    layers,
    kvHeads,
    lies,
    columns,
    rows,
    cellWidth,
    cellHeight,
    left: axis.left,
    top: axis.top,
  };
}

const clampCell = (size: number): number =>
  Math.floor(Math.min(largestCell, Math.max(smallestCell, size)));

export function headCell(grid: HeadGrid, head: number): Rect {
  const layer = Math.floor(head / grid.kvHeads);
  const kvHead = head % grid.kvHeads;
  return {
    x: grid.left + (grid.lies ? layer : kvHead) * grid.cellWidth,
    y: grid.top + (grid.lies ? kvHead : layer) * grid.cellHeight,
    width: grid.cellWidth,
    height: grid.cellHeight,
  };
}

/** @returns the head at a point, or null beside the grid */
export function headAt(grid: HeadGrid, x: number, y: number): number | null {
  const column = Math.floor((x - grid.left) / grid.cellWidth);
  const row = Math.floor((y - grid.top) / grid.cellHeight);
  if (column < 0 || row < 0 || column >= grid.columns || row >= grid.rows) return null;
  return grid.lies ? column * grid.kvHeads + row : row * grid.kvHeads + column;
}

/** The head one step away on the grid as it is drawn; the same head at an edge. */
export function headBeside(grid: HeadGrid, head: number, right: number, down: number): number {
  const cell = headCell(grid, head);
  const x = cell.x + (right + 0.5) * grid.cellWidth;
  const y = cell.y + (down + 0.5) * grid.cellHeight;
  return headAt(grid, x, y) ?? head;
}

/** Size that the grid takes, axes included. */
export const gridSize = (grid: HeadGrid): { width: number; height: number } => ({
  width: grid.left + grid.columns * grid.cellWidth,
  height: grid.top + grid.rows * grid.cellHeight,
});

export interface HeadMapStyle {
  ink: string;
  ground: string;
  focus: string;
}

/** Draws axes and cells.
 * @param colours [heads] a colour, or null where there is nothing to show
 * @param marked heads with a frame: pinned, pointed at */
export function drawHeads(
  surface: Surface,
  grid: HeadGrid,
  colours: readonly (string | null)[],
  marked: readonly number[],
  style: HeadMapStyle,
): void {
  drawAxes(surface, grid, style);
  const gap = Math.min(grid.cellWidth, grid.cellHeight) >= 6 ? 1 : 0;
  for (const [head, colour] of colours.entries()) {
    const cell = headCell(grid, head);
    surface.fill(
      { ...cell, width: cell.width - gap, height: cell.height - gap },
      colour ?? style.ground,
    );
  }
  for (const head of marked) {
    const cell = headCell(grid, head);
    const inset = { x: cell.x, y: cell.y, width: cell.width - gap, height: cell.height - gap };
    surface.stroke(inset, style.ground, 4);
    surface.stroke(inset, style.focus, 2);
  }
}

const labelSize = 11;

function drawAxes(surface: Surface, grid: HeadGrid, style: HeadMapStyle): void {
  const text = { colour: style.ink, size: labelSize };
  for (let column = 0; column < grid.columns; column += everyNth(grid.cellWidth, 24)) {
    const at = { x: grid.left + (column + 0.5) * grid.cellWidth, y: grid.top - 4 };
    surface.text(`${column}`, at, { ...text, align: "center", baseline: "bottom" });
  }
  for (let row = 0; row < grid.rows; row += everyNth(grid.cellHeight, 14)) {
    const at = { x: grid.left - 6, y: grid.top + (row + 0.5) * grid.cellHeight };
    surface.text(`${row}`, at, { ...text, align: "right", baseline: "middle" });
  }
}

/** How many cells from one label to the next, so that labels stand at least `room` apart. */
function everyNth(cell: number, room: number): number {
  return [1, 2, 4, 5, 8, 10, 20, 50].find((step) => step * cell >= room) ?? 100;
}
