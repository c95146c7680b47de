/** Colours of the maps: viridis, which grows evenly in lightness and is told apart by people with
 * any colour vision. The same in both themes, so that a colour always means the same. */
import { interpolateViridis } from "d3-scale-chromatic";

const steps = 256;
const table: readonly string[] = Array.from({ length: steps }, (_, index) =>
  interpolateViridis(index / (steps - 1)),
);

/** @param share 0 (dark) to 1 (light); what lies outside is clamped, NaN is 0 */
export const viridis = (share: number): string =>
  table[Math.round(Math.min(1, Math.max(0, share || 0)) * (steps - 1))]!;

/** The block sizes of profiles, finest first: the finer, the lighter. */
export const blockSizes = [16, 32, 64, 128] as const;
const blockShares = [0.92, 0.66, 0.38, 0.1] as const;

/** Sizes between or beyond the four take the colour of the next one. */
export function blockColour(blockTokens: number): string {
  const index = blockSizes.findIndex((size) => blockTokens <= size);
  return viridis(blockShares[index === -1 ? blockShares.length - 1 : index]!);
}

/** A scale with white in the middle, for differences: blue below zero, red-brown above.
 * @param share -1 to 1 */
export function difference(share: number): string {
  const clamped = Math.min(1, Math.max(-1, share || 0));
  const end = clamped < 0 ? [33, 102, 172] : [178, 70, 24];
  const mix = (from: number, to: number) => Math.round(from + (to - from) * Math.abs(clamped));
  return `rgb(${mix(240, end[0]!)}, ${mix(238, end[1]!)}, ${mix(232, end[2]!)})`;
}

/** Black or white, whichever is read more easily on the colour.
 * @param colour `#rrggbb` or `rgb(r, g, b)` */
export const inkOn = (colour: string): string =>
  luminance(colour) > 0.179 ? "#000000" : "#ffffff";

/** Relative luminance as WCAG 2 defines it, 0 to 1. */
export function luminance(colour: string): number {
  const [red, green, blue] = channels(colour).map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!;
}

/** Contrast as WCAG 2 defines it, 1 to 21. */
export function contrast(one: string, other: string): number {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light! + 0.05) / (dark! + 0.05);
}

function channels(colour: string): number[] {
  const hex = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(colour);
  if (hex !== null) return hex.slice(1).map((part) => Number.parseInt(part, 16));
  return (colour.match(/\d+(\.\d+)?/g) ?? []).slice(0, 3).map(Number);
}
