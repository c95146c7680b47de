/** Charts as SVG text: what the charts of a head report share. */

/** Viridis at four places, as in the window's maps: the finer the blocks, the lighter. */
export const blockColours: Record<number, string> = {
  16: "#cae11f",
  32: "#32b67a",
  64: "#2c738e",
  128: "#482475",
};

const ink = "#24211d";
const faint = "#d8d2c8";

/** A part of a drawing that holds a chart's values, in pixels. */
export interface Frame {
  left: number;
  top: number;
  width: number;
  height: number;
}

/** A drawing on white, so that it is read on pages of any colour. */
export function drawing(width: number, height: number, title: string, parts: string[]): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" font-family="sans-serif" font-size="12" fill="${ink}">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    ...parts,
    "</svg>",
    "",
  ].join("\n");
}

export function words(
  x: number,
  y: number,
  text: string,
  { anchor = "start", size = 12, fill = ink, turned = false } = {},
): string {
  const place = turned ? ` transform="rotate(-90 ${at(x)} ${at(y)})"` : "";
  return `<text x="${at(x)}" y="${at(y)}" text-anchor="${anchor}" font-size="${size}" fill="${fill}"${place}>${escaped(text)}</text>`;
}

export function box({ left, top, width, height }: Frame, fill: string, title = ""): string {
  const said = title === "" ? "/>" : `><title>${escaped(title)}</title></rect>`;
  return `<rect x="${at(left)}" y="${at(top)}" width="${at(width)}" height="${at(height)}" fill="${fill}"${said}`;
}

export function path(
  points: readonly (readonly [number, number])[],
  { colour = ink, width = 2, opacity = 1 } = {},
): string {
  const joined = points.map(([x, y]) => `${at(x)},${at(y)}`).join(" ");
  return `<polyline points="${joined}" fill="none" stroke="${colour}" stroke-width="${width}" stroke-opacity="${opacity}"/>`;
}

/** Round values from 0 to the first that is not below `most`, about five of them. */
export function ticksUpTo(most: number): number[] {
  const rough = Math.max(most, Number.MIN_VALUE) / 5;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find((factor) => factor * unit >= rough)!;
  return Array.from({ length: Math.ceil(most / step - 1e-9) + 1 }, (_, index) => index * step);
}

/** Lines and numbers of a frame's left side. */
export function leftAxis(frame: Frame, ticks: readonly number[], label: string): string[] {
  const most = ticks.at(-1)!;
  const decimals = Math.max(0, -Math.floor(Math.log10(ticks[1]!) + 1e-9));
  return [
    ...ticks.flatMap((tick) => {
      const y = heightOf(frame, tick, most);
      return [
        path(
          [
            [frame.left, y],
            [frame.left + frame.width, y],
          ],
          { colour: faint, width: 1 },
        ),
        words(frame.left - 6, y + 4, tick.toFixed(decimals), { anchor: "end" }),
      ];
    }),
    words(frame.left - 42, frame.top + frame.height / 2, label, { anchor: "middle", turned: true }),
  ];
}

/** Where a value lies between 0 and `most`. */
export const heightOf = (frame: Frame, value: number, most: number): number =>
  frame.top + frame.height * (1 - value / most);

const at = (value: number): string => String(Math.round(value * 100) / 100);

const escaped = (text: string): string =>
  text.replace(/[&<>"]/g, (sign) => `&#${sign.codePointAt(0)};`);
