import { homedir } from "node:os";
import { describe, expect, test } from "vitest";
import {
  budgetsOf,
  dataDir,
  decimal,
  digestBitsOf,
  wholeNumber,
  wholeNumbers,
  wordOf,
  wordsOf,
} from "../../../cli/options.ts";

describe("values of options", () => {
  test("whole numbers, with or without thousands marks", () => {
    const parse = wholeNumber(1, 1_000_000);
    expect(parse("2048")).toBe(2048);
    expect(parse("2,048")).toBe(2048);
    for (const wrong of [
      "",
      "-1",
      "0",
      "1.5",
      "1e3",
      "20,48",
      "0x10",
      " 5",
      "5 ",
      "1000001",
      "9".repeat(16),
    ]) {
      expect(() => parse(wrong), wrong).toThrow(/whole number/i);
    }
  });

  test("decimals", () => {
    expect(decimal(0, 10)("0.7")).toBe(0.7);
    for (const wrong of ["", "-0.1", "11", ".5", "1.", "NaN", "1e1"]) {
      expect(() => decimal(0, 10)(wrong), wrong).toThrow(/number/i);
    }
  });

  test("lists, each value once", () => {
    expect(wholeNumbers(1)("512, 8192,512")).toEqual([512, 8192]);
    expect(() => wholeNumbers(1)("512,,1")).toThrow();
    expect(wordsOf(["a", "b"] as const)("b,a,b")).toEqual(["b", "a"]);
    expect(() => wordsOf(["a", "b"] as const)("c")).toThrow(/a or b/);
    expect(wordOf(["a", "b"] as const)("b")).toBe("b");
    expect(() => wordOf(["a", "b"] as const)("a,b")).toThrow(/a, b/);
    expect(digestBitsOf("4,16")).toEqual([4, 16]);
    expect(() => digestBitsOf("4,5")).toThrow(/2, 4, 8, 16/);
  });

  test("budgets in tokens or percent", () => {
    expect(budgetsOf("512, 8%,2.5%")).toEqual([
      { tokens: 512, percent: 0 },
      { tokens: 1024, percent: 8 },
      { tokens: 1024, percent: 2.5 },
    ]);
    for (const wrong of ["", "100", "101%", "-1", "8 %x", "512,"])
      expect(() => budgetsOf(wrong), wrong).toThrow(/share/);
  });
});

describe("the data folder", () => {
  test("is the option's, else the environment's, else XDG's", () => {
    const env = { SCHOLIA_DATA: "/s", XDG_DATA_HOME: "/x" };
    expect(dataDir("/o", env)).toBe("/o");
    expect(dataDir(undefined, env)).toBe("/s");
    expect(dataDir(undefined, { XDG_DATA_HOME: "/x" })).toBe("/x/scholia");
    expect(dataDir(undefined, { XDG_DATA_HOME: "relative" })).toBe(
      `${homedir()}/.local/share/scholia`,
    );
    expect(dataDir(undefined, {})).toBe(`${homedir()}/.local/share/scholia`);
  });
});
