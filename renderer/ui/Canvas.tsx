import { type CanvasHTMLAttributes, type Ref, useEffect, useImperativeHandle, useRef } from "react";
import { CanvasSurface, type Surface } from "../draw/surface.ts";

interface CanvasProps extends Omit<CanvasHTMLAttributes<HTMLCanvasElement>, "width" | "height"> {
  width: number;
  height: number;
  /** Draws all of it, in CSS pixels. */
  draw(surface: Surface): void;
  /** Calls back when there is something new to draw that React does not know of. */
  subscribe?: ((redraw: () => void) => () => void) | undefined;
  ref?: Ref<HTMLCanvasElement | null>;
}

/** What is to be drawn in the next frame of the screen: one request for it serves all canvases. */
const waiting = new Set<() => void>();

function inNextFrame(repaint: () => void): void {
  if (waiting.size === 0) requestAnimationFrame(drawWaiting);
  waiting.add(repaint);
}

function drawWaiting(): void {
  const due = [...waiting];
  waiting.clear();
  for (const repaint of due) repaint();
}

/** A canvas that is sharp on every screen and is drawn at most once per frame of it. */
export function Canvas({ width, height, draw, subscribe, ref, style, ...rest }: CanvasProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useImperativeHandle<HTMLCanvasElement | null, HTMLCanvasElement | null>(
    ref,
    () => canvas.current,
    [],
  );
  const drawing = useRef(draw);
  drawing.current = draw;
  const repaint = useRef(() => {
    if (canvas.current !== null) paint(canvas.current, drawing.current);
  });

  // Without a list: every render may have changed what is drawn.
  useEffect(() => inNextFrame(repaint.current));
  useEffect(() => subscribe?.(() => inNextFrame(repaint.current)), [subscribe]);
  useEffect(() => () => void waiting.delete(repaint.current), []);

  const scale = window.devicePixelRatio || 1;
  return (
    <canvas
      ref={canvas}
      width={Math.round(width * scale)}
      height={Math.round(height * scale)}
      style={{ width, height, display: "block", ...style }}
      {...rest}
    />
  );
}

function paint(canvas: HTMLCanvasElement, draw: (surface: Surface) => void): void {
  const context = canvas.getContext("2d");
  if (context === null) return;
  const scale = window.devicePixelRatio || 1;
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, canvas.width / scale, canvas.height / scale);
  draw(new CanvasSurface(context));
}
