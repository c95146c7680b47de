import { describe, expect, test } from "vitest";
import { bytes, rate, seconds, table, wrap } from "../../../cli/format.ts";
import { describeProgress, ProgressLine } from "../../../cli/progress.ts";
import type { Progress } from "../../../contract/stream.ts";
import { recordingTerminal } from "./recordingTerminal.ts";

const reading = (done: number, extra: Partial<Progress> = {}): Progress => ({
  phase: "prefill",
  done,
  total: 27_512,
  unit: "tokens",
  seconds: 1,
  rate: 182.4,
  secondsLeft: (27_512 - done) / 182.4,
  ...extra,
});

describe("a progress line", () => {
  test("says what is done, how fast, and how long it takes", () => {
    expect(describeProgress(reading(12_288), false)).toBe(
      "Reading: 12,288 of 27,512 tokens · 182 tokens/s · 83 s left",
    );
    expect(describeProgress(reading(13_756), true)).toContain("██████████░░░░░░░░░░");
    expect(describeProgress(reading(27_512), false)).not.toContain("left");
    expect(
      describeProgress(
        { ...reading(5e8), phase: "download", total: 1e9, unit: "bytes", rate: 2e6, label: "qwen" },
        false,
      ),
    ).toContain("Downloading qwen: 500 MB of 1.00 GB · 2.00 MB/s");
    expect(describeProgress(reading(1, { rate: null, secondsLeft: null }), false)).toBe(
      "Reading: 1 of 27,512 tokens",
    );
  });

  test("is rewritten on a terminal and taken away at the end", () => {
    const terminal = recordingTerminal(true);
    let now = 0;
    const line = new ProgressLine(terminal, () => now);
    line.show(reading(512));
    now += 10;
    line.show(reading(1024));
    now += 100;
    line.show(reading(1536));
    line.clear();
    expect(terminal.errors.split("\r\u001b[2K")).toHaveLength(4);
    expect(terminal.errors).toContain("512 of");
    expect(terminal.errors).not.toContain("1,024");
    expect(terminal.errors).toContain("1,536");
    expect(terminal.errors).not.toContain("\n");
    for (const shown of terminal.errors.split("\r\u001b[2K")) {
      expect(shown.length).toBeLessThan(terminal.columns);
    }
    expect(terminal.written).toBe("");
  });

  test("is a plain line now and then elsewhere", () => {
    const terminal = recordingTerminal(false);
    let now = 0;
    const line = new ProgressLine(terminal, () => now);
    for (let done = 512; done <= 27_512; done += 500) {
      line.show(reading(done));
      now += 1000;
    }
    line.show(reading(27_512));
    const lines = terminal.errors.trimEnd().split("\n");
    expect(lines.length).toBeGreaterThan(8);
    expect(lines.length).toBeLessThan(14);
    expect(terminal.errors).not.toContain("\r");
    expect(lines.at(-1)).toContain("27,512 of 27,512");
  });

  test("is not shown for what is over at once", () => {
    const terminal = recordingTerminal(false);
    const line = new ProgressLine(terminal, () => 0);
    line.show(reading(100));
    line.show(reading(27_512));
    line.clear();
    expect(terminal.errors).toBe("");
  });
});

describe("numbers", () => {
  test("are given as people read them", () => {
    expect([bytes(0), bytes(999), bytes(1500), bytes(98_362_432), bytes(1.07e9)]).toEqual([
      "0 B",
      "999 B",
      "1.50 kB",
      "98.4 MB",
      "1.07 GB",
    ]);
    expect([rate(0.5), rate(33.33), rate(1234.5)]).toEqual(["0.50", "33.3", "1,235"]);
    expect([seconds(0.123), seconds(5), seconds(83.4), seconds(600), seconds(8000)]).toEqual([
      "0.12 s",
      "5.0 s",
      "83 s",
      "10 min",
      "2 h 13 min",
    ]);
  });

  test("stand flush right in tables, words left", () => {
    expect(
      table(
        [
          ["dense", 512, "9.5"],
          ["ab-sparse", 8192, "–"],
        ],
        ["mode", "depth", "ratio"],
      ),
    ).toBe("mode       depth  ratio\ndense        512    9.5\nab-sparse   8192      –\n");
  });

  test("lines are wrapped between words", () => {
    expect(wrap("one two three four", 9, "  ")).toBe("one two\n  three\n  four");
    expect(wrap("  spaced\n out ", 40)).toBe("spaced out");
  });
});
