import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  blockColour,
  blockSizes,
  contrast,
  inkOn,
  luminance,
  viridis,
} from "../../../renderer/draw/colour.ts";

const css = readFileSync(join(import.meta.dirname, "../../../renderer/styles/tokens.css"), "utf8");

/** Custom properties of the first block with this selector. */
function tokens(selector: string): Map<string, string> {
  const block = css.slice(css.indexOf(selector)).split("}")[0]!;
  return new Map(
    [...block.matchAll(/(--[\w-]+):\s*([^;]+);/g)].map(([, name, value]) => [name!, value!]),
  );
}

const grounds = ["--paper", "--desk", "--raised", "--sunken"];
const inks = ["--ink", "--ink-soft", "--rubric", "--good", "--warn", "--bad"];

describe.each([
  ["light", ":root {"],
  ["dark", ':root[data-theme="dark"] {'],
])("text in the %s theme", (_, selector) => {
  const theme = tokens(selector);
  const value = (name: string) => theme.get(name)!;

  test.each(grounds.flatMap((ground) => inks.map((ink) => [ink, ground] as const)))(
    "%s on %s has a contrast of 4.5",
    (ink, ground) => {
      expect(contrast(value(ink), value(ground))).toBeGreaterThanOrEqual(4.5);
    },
  );

  test("buttons, washes, marks and the tip too", () => {
    expect(contrast(value("--rubric-ink"), value("--rubric"))).toBeGreaterThanOrEqual(4.5);
    expect(contrast(value("--ink"), value("--rubric-wash"))).toBeGreaterThanOrEqual(4.5);
    expect(contrast(value("--rubric"), value("--rubric-wash"))).toBeGreaterThanOrEqual(4.5);
    expect(contrast(value("--ink-soft"), value("--rubric-wash"))).toBeGreaterThanOrEqual(4.5);
    expect(contrast(value("--ink"), value("--mark"))).toBeGreaterThanOrEqual(4.5);
    expect(contrast(value("--paper"), value("--ink"))).toBeGreaterThanOrEqual(4.5);
  });

  test("borders of fields and the focus ring have a contrast of 3", () => {
    for (const ground of grounds) {
      expect(contrast(value("--hairline-strong"), value(ground))).toBeGreaterThanOrEqual(3);
      expect(contrast(value("--focus"), value(ground))).toBeGreaterThanOrEqual(3);
    }
  });
});

describe("colours of the maps", () => {
  test("viridis grows in lightness", () => {
    const shares = Array.from({ length: 32 }, (_, index) => luminance(viridis(index / 31)));
    expect([...shares].sort((a, b) => a - b)).toEqual(shares);
  });

  test("the four block sizes are told apart by lightness alone", () => {
    const colours = blockSizes.map(blockColour);
    for (let index = 1; index < colours.length; index++)
      expect(contrast(colours[index - 1]!, colours[index]!)).toBeGreaterThanOrEqual(1.4);
  });

  test("what is written on them can be read", () => {
    for (let share = 0; share <= 1; share += 0.05) {
      const colour = viridis(share);
      expect(contrast(inkOn(colour), colour)).toBeGreaterThanOrEqual(4.5);
    }
  });
});
