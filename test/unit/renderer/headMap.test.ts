import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  drawHeads,
  gridSize,
  headAt,
  headBeside,
  headCell,
  layoutHeads,
} from "../../../renderer/draw/headMap.ts";
import { SvgSurface } from "../../../renderer/draw/surface.ts";

const shape = fc.record({
  layers: fc.integer({ min: 1, max: 96 }),
  kvHeads: fc.integer({ min: 1, max: 32 }),
  width: fc.integer({ min: 120, max: 2400 }),
  height: fc.integer({ min: 80, max: 1400 }),
});

describe("the grid of heads", () => {
  test("every head has a cell of its own, and a point in it leads back to the head", () => {
    fc.assert(
      fc.property(shape, ({ layers, kvHeads, width, height }) => {
        const grid = layoutHeads(layers, kvHeads, width, height);
        const corners = new Set<string>();
        for (let head = 0; head < layers * kvHeads; head++) {
          const cell = headCell(grid, head);
          corners.add(`${cell.x}:${cell.y}`);
          expect(headAt(grid, cell.x + 0.5, cell.y + 0.5)).toBe(head);
          expect(headAt(grid, cell.x + cell.width - 0.5, cell.y + cell.height - 0.5)).toBe(head);
        }
        expect(corners.size).toBe(layers * kvHeads);
      }),
    );
  });

  test("fits where the smallest cells fit", () => {
    fc.assert(
      fc.property(shape, ({ layers, kvHeads, width, height }) => {
        const grid = layoutHeads(layers, kvHeads, width, height);
        if (grid.cellWidth <= 3 || grid.cellHeight <= 3) return;
        const size = gridSize(grid);
        expect(size.width).toBeLessThanOrEqual(width);
        expect(size.height).toBeLessThanOrEqual(height);
      }),
    );
  });

  test("the shape decides: many layers and few heads lie in a low pane and stand in a tall one", () => {
    expect(layoutHeads(24, 2, 900, 200).lies).toBe(true);
    expect(layoutHeads(24, 2, 160, 900).lies).toBe(false);
  });

  test("points beside the grid lead to no head", () => {
    const grid = layoutHeads(30, 3, 800, 200);
    const size = gridSize(grid);
    expect(headAt(grid, 0, 0)).toBeNull();
    expect(headAt(grid, size.width + 1, size.height / 2)).toBeNull();
    expect(headAt(grid, size.width / 2, size.height + 1)).toBeNull();
  });

  test("arrows go to the neighbour as drawn and stay at the edges", () => {
    const lying = layoutHeads(30, 3, 900, 200);
    expect(lying.lies).toBe(true);
    expect(headBeside(lying, 0, 1, 0)).toBe(3);
    expect(headBeside(lying, 0, 0, 1)).toBe(1);
    expect(headBeside(lying, 0, -1, 0)).toBe(0);
    expect(headBeside(lying, 89, 1, 0)).toBe(89);
    const standing = layoutHeads(30, 3, 160, 900);
    expect(headBeside(standing, 0, 1, 0)).toBe(1);
    expect(headBeside(standing, 0, 0, 1)).toBe(3);
  });

  test("is drawn with a rectangle for each head, in its colour or the ground's", () => {
    const grid = layoutHeads(4, 2, 400, 200);
    const surface = new SvgSurface(400, 200);
    const colours = [...Array(7).fill("#123456"), null];
    drawHeads(surface, grid, colours, [3], { ink: "#000", ground: "#eeeeee", focus: "#ff0000" });
    const svg = surface.toString();
    expect(svg.match(/fill="#123456"/g)).toHaveLength(7);
    expect(svg.match(/fill="#eeeeee"/g)).toHaveLength(1);
    expect(svg.match(/stroke="#ff0000"/g)).toHaveLength(1);
  });
});

test("SVG keeps what stands in text as text", () => {
  const surface = new SvgSurface(10, 10);
  surface.text('<script>"&', { x: 0, y: 0 }, { colour: "#000", size: 10 });
  expect(surface.toString()).toContain(">&lt;script&gt;&quot;&amp;</text>");
});
