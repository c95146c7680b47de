import { describe, expect, test } from "vitest";
import type { MemoryNode } from "../../../contract/memory.ts";
import { SvgSurface } from "../../../renderer/draw/surface.ts";
import { drawTreemap, layoutTreemap, tileAt } from "../../../renderer/draw/treemap.ts";

const layer = (name: string, bytes: number): MemoryNode => ({
  name,
  kind: "group",
  bytes,
  children: [
    { name: "attn_q", kind: "weights", bytes: bytes / 4 },
    { name: "ffn_up", kind: "weights", bytes: (3 * bytes) / 4 },
  ],
});

const root: MemoryNode = {
  name: "machine",
  kind: "group",
  bytes: 1000,
  children: [
    {
      name: "weights",
      kind: "group",
      bytes: 600,
      children: [layer("layer 0", 200), layer("layer 1", 400)],
    },
    { name: "KV", kind: "kv", bytes: 300 },
    { name: "free", kind: "free", bytes: 100 },
  ],
};

describe("memory as rectangles", () => {
  test("leaves are as large as their bytes, but for the room of names and gaps", () => {
    const tiles = layoutTreemap(root, 900, 500, 1);
    expect(tiles.map(({ node }) => node.name)).toEqual(["weights", "KV", "free"]);
    const area = (name: string) => {
      const tile = tiles.find(({ node }) => node.name === name)!;
      return tile.width * tile.height;
    };
    expect(area("weights") / area("KV")).toBeCloseTo(2, 1);
    expect(area("KV") / area("free")).toBeCloseTo(3, 1);
  });

  test("levels decide how deep it is divided, and no tile leaves its parent", () => {
    expect(layoutTreemap(root, 900, 500, 2)).toHaveLength(5);
    const tiles = layoutTreemap(root, 900, 500, 3);
    expect(tiles).toHaveLength(9);
    for (const tile of tiles) {
      const parent = tiles.find(({ path }) => path.join() === tile.path.slice(0, -1).join());
      if (parent === undefined) continue;
      expect(tile.x).toBeGreaterThanOrEqual(parent.x);
      expect(tile.y).toBeGreaterThanOrEqual(parent.y);
      expect(tile.x + tile.width).toBeLessThanOrEqual(parent.x + parent.width);
      expect(tile.y + tile.height).toBeLessThanOrEqual(parent.y + parent.height);
    }
  });

  test("the deepest tile at a point is found", () => {
    const tiles = layoutTreemap(root, 900, 500, 3);
    const leaf = tiles.find(({ path }) => path.join("/") === "weights/layer 1/ffn_up")!;
    expect(tileAt(tiles, leaf.x + 1, leaf.y + 1)).toBe(leaf);
    expect(tileAt(tiles, -1, 5)).toBeNull();
  });

  test("an empty tree and no room are no error", () => {
    const empty: MemoryNode = { name: "machine", kind: "group", bytes: 0, children: [] };
    expect(layoutTreemap(empty, 300, 200, 3)).toEqual([]);
    for (const { width } of layoutTreemap(root, 0, 0, 3)) expect(width).toBeGreaterThanOrEqual(0);
  });

  test("names and bytes are drawn where they fit", () => {
    const surface = new SvgSurface(900, 500);
    const style = { ink: "#111111", ground: "#eeeeee", focus: "#00f", colourOf: () => "#336699" };
    drawTreemap(surface, layoutTreemap(root, 900, 500, 3), null, style);
    expect(surface.toString()).toContain(">weights</text>");
    expect(surface.toString()).toContain(">300 bytes</text>");
  });
});
