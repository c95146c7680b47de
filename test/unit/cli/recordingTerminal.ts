import type { Terminal } from "../../../cli/terminal.ts";

/** A terminal that keeps what is written. */
export function recordingTerminal(
  rewrites = false,
): Terminal & { written: string; errors: string } {
  return {
    written: "",
    errors: "",
    out(text) {
      this.written += text;
    },
    err(text) {
      this.errors += text;
    },
    rewrites,
    columns: 60,
    style: (_style, text) => text,
  };
}
