/** Where the command line writes: results to standard output, everything else to standard error. */
import type { WriteStream } from "node:tty";

export interface Terminal {
  /** The answer, a table, or one JSON value: what a pipe should get. */
  out(text: string): void;
  /** Progress, notes and errors. */
  err(text: string): void;
  /** Whether standard error is a terminal whose last line can be rewritten. */
  readonly rewrites: boolean;
  readonly columns: number;
  /** Wraps text in a style where standard output shows it. */
  style(style: Style, text: string): string;
}

export type Style = "bold" | "dim" | "red" | "green" | "yellow";
const codes: Record<Style, [number, number]> = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
};

export function processTerminal(): Terminal {
  const styled = process.stdout.isTTY === true && !process.env.NO_COLOR;
  return {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    rewrites: process.stderr.isTTY === true && process.env.TERM !== "dumb",
    get columns() {
      return (process.stderr as WriteStream).columns || 80;
    },
    style: (style, text) =>
      styled ? `\u001b[${codes[style][0]}m${text}\u001b[${codes[style][1]}m` : text,
  };
}
