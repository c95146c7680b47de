/** Progress on standard error: one line that is rewritten on a terminal, a plain line now and then
 * elsewhere. */
import type { Phase, Progress } from "../contract/stream.ts";
import { bytes, count, rate, seconds } from "./format.ts";
import type { Terminal } from "./terminal.ts";

const titles: Record<Phase, string> = {
  model: "Loading the model",
  document: "Opening the document",
  tokens: "Counting tokens",
  prefill: "Reading",
  kv: "Saving",
  decode: "Answering",
  answer: "Looking up quotations",
  download: "Downloading",
};
const rewriteMs = 80;
const plainLineMs = 5000;
const barCells = 20;

export class ProgressLine {
  private readonly terminal: Terminal;
  private readonly now: () => number;
  private lastAt = Number.NEGATIVE_INFINITY;
  private lastTitle = "";
  private shown = false;

  constructor(terminal: Terminal, now: () => number = () => performance.now()) {
    this.terminal = terminal;
    this.now = now;
  }

  show(progress: Progress): void {
    const title = titleOf(progress);
    const isLast = progress.done >= progress.total;
    if (title !== this.lastTitle) {
      this.lastTitle = title;
      // Elsewhere the first line of a stage waits too: most stages are over before it is due.
      this.lastAt = this.terminal.rewrites ? Number.NEGATIVE_INFINITY : this.now();
    }
    const due = this.now() - this.lastAt >= (this.terminal.rewrites ? rewriteMs : plainLineMs);
    if (!due && !(isLast && this.shown)) return;
    this.lastAt = this.now();
    this.shown = true;
    const line = describeProgress(progress, this.terminal.rewrites);
    if (!this.terminal.rewrites) this.terminal.err(`${line}\n`);
    else this.terminal.err(`\r\u001b[2K${line.slice(0, this.terminal.columns - 1)}`);
  }

  /** Takes the line away, so that something else can be written. */
  clear(): void {
    if (this.shown && this.terminal.rewrites) this.terminal.err("\r\u001b[2K");
    this.shown = false;
    this.lastTitle = "";
    this.lastAt = Number.NEGATIVE_INFINITY;
  }
}

export function describeProgress(progress: Progress, withBar: boolean): string {
  const { done, total, unit } = progress;
  const parts: string[] = [];
  if (unit === "percent") parts.push(`${Math.floor((100 * done) / Math.max(1, total))} %`);
  else if (unit === "bytes") parts.push(`${bytes(done)} of ${bytes(total)}`);
  else parts.push(`${count(done)} of ${count(total)} ${unit}`);
  if (progress.rate !== null && progress.rate > 0) {
    parts.push(unit === "bytes" ? `${bytes(progress.rate)}/s` : `${rate(progress.rate)} ${unit}/s`);
  }
  if (progress.secondsLeft !== null && done < total) {
    parts.push(`${seconds(progress.secondsLeft)} left`);
  }
  const bar = withBar ? `${drawBar(total > 0 ? done / total : 0)} ` : "";
  return `${titleOf(progress)}: ${bar}${parts.join(" · ")}`;
}

function titleOf(progress: Progress): string {
  return progress.label === undefined
    ? titles[progress.phase]
    : `${titles[progress.phase]} ${progress.label}`;
}

function drawBar(fraction: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, fraction)) * barCells);
  return "█".repeat(filled) + "░".repeat(barCells - filled);
}
