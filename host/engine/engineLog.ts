/** The log of libllama and ggml, as lines. */

export type LogLevel = "debug" | "info" | "warning" | "error";

export interface LogLine {
  level: LogLevel;
  text: string;
}

const levels: Record<number, LogLevel> = { 1: "debug", 2: "info", 3: "warning", 4: "error" };

/** Puts together the pieces that the libraries log: some end in the middle of a line, and a piece of
 * a level of its own, 5, goes on with the last one. */
export class LogLines {
  private readonly listener: (line: LogLine) => void;
  private level: LogLevel = "info";
  private unfinished = "";

  constructor(listener: (line: LogLine) => void) {
    this.listener = listener;
  }

  add(level: number, text: string): void {
    this.level = levels[level] ?? this.level;
    const lines = (this.unfinished + text).split("\n");
    this.unfinished = lines.pop() ?? "";
    for (const line of lines) {
      if (line.trim() !== "") this.listener({ level: this.level, text: line.trimEnd() });
    }
  }
}
