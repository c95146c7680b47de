/** What charts are drawn on: a canvas while they live, an SVG document when they are exported. The
 * same drawing function serves both, so an export shows what the screen shows. Coordinates are CSS
 * pixels. */

export interface TextStyle {
  colour: string;
  size: number;
  align?: "left" | "center" | "right";
  baseline?: "top" | "middle" | "bottom";
  weight?: number;
  /** Text that would be wider is left out. */
  maxWidth?: number;
}

export interface Point {
  x: number;
  y: number;
}

export interface Rect extends Point {
  width: number;
  height: number;
}

export interface Surface {
  fill(rect: Rect, colour: string): void;
  stroke(rect: Rect, colour: string, lineWidth: number): void;
  /** An open line through the points. */
  line(points: readonly Point[], colour: string, lineWidth: number): void;
  /** A closed, filled shape. */
  area(points: readonly Point[], colour: string): void;
  text(text: string, at: Point, style: TextStyle): void;
}

const family = '"Source Sans 3 Variable", "Source Sans 3", "Segoe UI", sans-serif';

export class CanvasSurface implements Surface {
  private readonly context: CanvasRenderingContext2D;

  constructor(context: CanvasRenderingContext2D) {
    this.context = context;
  }

  fill({ x, y, width, height }: Rect, colour: string) {
    this.context.fillStyle = colour;
    this.context.fillRect(x, y, width, height);
  }

  stroke({ x, y, width, height }: Rect, colour: string, lineWidth: number) {
    this.context.strokeStyle = colour;
    this.context.lineWidth = lineWidth;
    this.context.strokeRect(x, y, width, height);
  }

  line(points: readonly Point[], colour: string, lineWidth: number) {
    this.context.strokeStyle = colour;
    this.context.lineWidth = lineWidth;
    this.context.lineJoin = "round";
    this.trace(points);
    this.context.stroke();
  }

  area(points: readonly Point[], colour: string) {
    this.context.fillStyle = colour;
    this.trace(points);
    this.context.closePath();
    this.context.fill();
  }

  text(text: string, at: Point, style: TextStyle) {
    this.context.font = `${style.weight ?? 400} ${style.size}px ${family}`;
    if (style.maxWidth !== undefined && this.context.measureText(text).width > style.maxWidth)
      return;
    this.context.fillStyle = style.colour;
    this.context.textAlign = style.align ?? "left";
    this.context.textBaseline = style.baseline ?? "top";
    this.context.fillText(text, at.x, at.y);
  }

  private trace(points: readonly Point[]) {
    this.context.beginPath();
    for (const [index, { x, y }] of points.entries()) {
      if (index === 0) this.context.moveTo(x, y);
      else this.context.lineTo(x, y);
    }
  }
}

/** Mean width of a letter of the sans serif, in its size: SVG is made without measuring text. */
const letterWidth = 0.52;
const anchors = { left: "start", center: "middle", right: "end" } as const;
const baselines = { top: 0.8, middle: 0.33, bottom: -0.2 } as const;

export class SvgSurface implements Surface {
  private readonly parts: string[] = [];
  private readonly size: { width: number; height: number };

  constructor(width: number, height: number) {
    this.size = { width, height };
  }

  fill(rect: Rect, colour: string) {
    this.parts.push(`<rect ${rectangle(rect)} fill="${escapeXml(colour)}"/>`);
  }

  stroke(rect: Rect, colour: string, lineWidth: number) {
    this.parts.push(
      `<rect ${rectangle(rect)} fill="none" stroke="${escapeXml(colour)}" stroke-width="${round(lineWidth)}"/>`,
    );
  }

  line(points: readonly Point[], colour: string, lineWidth: number) {
    this.parts.push(
      `<polyline points="${path(points)}" fill="none" stroke="${escapeXml(colour)}" stroke-width="${round(lineWidth)}" stroke-linejoin="round"/>`,
    );
  }

  area(points: readonly Point[], colour: string) {
    this.parts.push(`<polygon points="${path(points)}" fill="${escapeXml(colour)}"/>`);
  }

  text(text: string, at: Point, style: TextStyle) {
    if (style.maxWidth !== undefined && text.length * style.size * letterWidth > style.maxWidth)
      return;
    const y = at.y + style.size * baselines[style.baseline ?? "top"];
    this.parts.push(
      `<text x="${round(at.x)}" y="${round(y)}" font-size="${style.size}" font-weight="${style.weight ?? 400}" text-anchor="${anchors[style.align ?? "left"]}" fill="${escapeXml(style.colour)}">${escapeXml(text)}</text>`,
    );
  }

  /** @returns the whole document */
  toString(): string {
    const { width, height } = this.size;
    return [
      `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="${escapeXml(family)}">`,
      ...this.parts,
      "</svg>\n",
    ].join("\n");
  }
}

const round = (value: number): number => Math.round(value * 100) / 100;

const rectangle = ({ x, y, width, height }: Rect): string =>
  `x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}"`;

const path = (points: readonly Point[]): string =>
  points.map(({ x, y }) => `${round(x)},${round(y)}`).join(" ");

const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const escapeXml = (text: string): string => text.replace(/[&<>"]/g, (letter) => entities[letter]!);
