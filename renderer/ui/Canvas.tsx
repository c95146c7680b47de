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
  const wish = useRef<number | null>(null);
  const redraw = useRef(() => {
    wish.current ??= requestAnimationFrame(() => {
      wish.current = null;
      if (canvas.current !== null) paint(canvas.current, drawing.current);
    });
  });

  // Without a list: every render may have changed what is drawn.
  useEffect(() => {
    redraw.current();
  });
  useEffect(() => subscribe?.(redraw.current), [subscribe]);
  useEffect(
    () => () => {
      if (wish.current !== null) cancelAnimationFrame(wish.current);
      wish.current = null;
    },
    [],
  );

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
