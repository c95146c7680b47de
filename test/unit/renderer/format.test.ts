import { describe, expect, test } from "vitest";
import {
  formatAgo,
  formatBytes,
  formatCount,
  formatDuration,
  formatNumber,
  formatPercent,
  formatRanges,
  formatRate,
} from "../../../renderer/format.ts";

describe("numbers as people read them", () => {
  test("bytes are decimal, at most three digits", () => {
    expect(formatBytes(0)).toBe("0 bytes");
    expect(formatBytes(999)).toBe("999 bytes");
    expect(formatBytes(1000)).toBe("1 kB");
    expect(formatBytes(27_140_000)).toBe("27.1 MB");
    expect(formatBytes(999_600)).toBe("1 MB");
    expect(formatBytes(50e9)).toBe("50 GB");
    expect(formatBytes(12_345e12)).toBe("12,300 TB");
  });

  test("counts, rates and shares", () => {
    expect(formatCount(27512)).toBe("27,512");
    expect(formatNumber(0.034_211)).toBe("0.0342");
    expect(formatNumber(1240.4)).toBe("1,240");
    expect(formatRate(36.61)).toBe("36.6");
    expect(formatRate(1240.2)).toBe("1,240");
    expect(formatPercent(0.119)).toBe("11.9 %");
    expect(formatPercent(1)).toBe("100 %");
  });

  test("durations in the unit that fits", () => {
    expect(formatDuration(0.417)).toBe("0.42 s");
    expect(formatDuration(9)).toBe("9 s");
    expect(formatDuration(59.6)).toBe("1 min");
    expect(formatDuration(200)).toBe("3 min 20 s");
    expect(formatDuration(3600 + 5 * 60)).toBe("1 h 5 min");
  });

  test("how long ago", () => {
    const now = Date.parse("2026-05-05T12:00:00Z");
    expect(formatAgo("2026-05-05T11:59:40Z", now)).toBe("now");
    expect(formatAgo("2026-05-05T09:00:00Z", now)).toBe("3 hours ago");
    expect(formatAgo("2026-05-04T11:00:00Z", now)).toBe("yesterday");
    expect(formatAgo("2026-05-06T11:00:00Z", now)).toBe("now");
  });

  test("page numbers as ranges", () => {
    expect(formatRanges([])).toBe("");
    expect(formatRanges([1, 2, 3, 7, 9, 10])).toBe("1–3, 7, 9–10");
  });
});
