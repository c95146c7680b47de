import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  drawReadMap,
  pageAt,
  pageScale,
  planSpread,
  resample,
  shade,
  shareOf,
  spread,
} from "../../../renderer/draw/readMap.ts";
import { SvgSurface } from "../../../renderer/draw/surface.ts";

const pages = [
  { number: 3, tokens: 100 },
  { number: 4, tokens: 0 },
  { number: 5, tokens: 300 },
];

describe("pages along the strip", () => {
  test("are as long as their tokens", () => {
    expect(pageScale(pages).edges).toEqual([0, 0.25, 0.25, 1]);
    expect(pageAt(pageScale(pages), 0.125)).toEqual({ page: 3, within: 0.5 });
    expect(pageAt(pageScale(pages), 0.25)).toEqual({ page: 5, within: 0 });
    expect(pageAt(pageScale(pages), 1)).toEqual({ page: 5, within: 1 });
    expect(shareOf(pageScale(pages), 5, 0.5)).toBeCloseTo(0.625);
    expect(shareOf(pageScale(pages), 9, 0)).toBeNull();
    expect(pageAt(pageScale([]), 0.5)).toBeNull();
  });

  test("there and back is the same place", () => {
    const some = fc.array(fc.integer({ min: 1, max: 4000 }), { minLength: 1, maxLength: 300 });
    fc.assert(
      fc.property(some, fc.double({ min: 0, max: 1, noNaN: true }), (tokens, share) => {
        const scale = pageScale(
          tokens.map((count, index) => ({ number: index + 1, tokens: count })),
        );
        const place = pageAt(scale, share)!;
        expect(shareOf(scale, place.page, place.within)).toBeCloseTo(share, 9);
      }),
    );
  });
});

describe("a strip over some pages", () => {
  const all = pageScale([1, 2, 3, 4].map((number) => ({ number, tokens: 100 })));
  const some = pageScale([2, 4].map((number) => ({ number, tokens: 100 })));

  test("stands at those pages of the whole document, and nowhere else", () => {
    const spreadOut = [...spread([1, 2, 3, 4], planSpread(some, all, 8, 4))];
    expect(spreadOut).toEqual([NaN, NaN, 1, 2, NaN, NaN, 3, 4]);
  });

  test("keeps its peaks when it is drawn smaller", () => {
    expect([...spread([0, 9, 1, 0], planSpread(some, all, 4, 4))]).toEqual([NaN, 9, NaN, 1]);
  });
});

describe("values on pixels", () => {
  test("no peak is lost, whatever the sizes", () => {
    const values = fc.array(fc.float({ min: 0, max: 1, noNaN: true }), {
      minLength: 1,
      maxLength: 2000,
    });
    fc.assert(
      fc.property(values, fc.integer({ min: 1, max: 1500 }), (bins, pixels) => {
        const drawn = resample(bins, pixels);
        expect(drawn).toHaveLength(pixels);
        expect(Math.max(...drawn)).toBeCloseTo(Math.max(...bins), 6);
      }),
    );
  });

  test("shades grow with the value and stay between 0 and 1", () => {
    expect(shade(0, 1)).toBe(0);
    expect(shade(1, 1)).toBe(1);
    expect(shade(0.25, 1)).toBe(0.5);
    expect(shade(5, 0)).toBe(0);
  });
});

test("the strip shows values, citations and the view", () => {
  const style = { ground: "#ground", read: "#read", tick: "#tick", view: "#view" };
  const content = { readShare: 1, citations: [0.5, 0.9], view: { begin: 0.2, end: 0.4 } };
  const withValues = new SvgSurface(18, 100);
  drawReadMap(withValues, 18, 100, { ...content, values: [0, 0, 1, 0] }, style);
  expect(withValues.toString().match(/#tick/g)).toHaveLength(2);
  expect(withValues.toString()).toContain('y="50" width="18" height="25"');
  expect(withValues.toString()).toContain('stroke="#view"');
  const reading = new SvgSurface(18, 100);
  drawReadMap(reading, 18, 100, { ...content, values: null, readShare: 0.3 }, style);
  expect(reading.toString()).toContain('height="30" fill="#read"');
});
