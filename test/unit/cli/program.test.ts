import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { runCommandLine } from "../../../cli/program.ts";
import { recordingTerminal } from "./recordingTerminal.ts";

async function run(...argv: string[]) {
  const terminal = recordingTerminal();
  const code = await runCommandLine(argv, terminal);
  return { code, out: terminal.written, err: terminal.errors };
}

describe("the command line", () => {
  test.each(["ask", "chat", "read", "heads", "calibrate", "bench", "models", "doctor"])(
    "%s has help that ends with the exit codes",
    async (command) => {
      const { code, out, err } = await run(command, "--help");
      expect(code).toBe(0);
      expect(err).toBe("");
      expect(out).toMatch(new RegExp(`^Usage: scholia ${command}`));
      expect(out).toContain("Exit codes: 0 done, 1 an error");
      if (command !== "models") expect(out).toContain("--json");
    },
  );

  test("has the options that every answer has", async () => {
    const { out } = await run("ask", "--help");
    for (const option of [
      "--model",
      "--profile",
      "--mode",
      "--budget",
      "--device",
      "--threads",
      "--seed",
      "--temperature",
      "--max-tokens",
      "--data",
      "--json",
      "--pages",
    ]) {
      expect(out).toContain(option);
    }
    expect(out.replace(/\s+/g, " ")).toMatch(/--budget <tokens>[^-]*\(default: the profile's\)/);
    expect(out.replace(/\s+/g, " ")).toContain(
      '(choices: "ab-sparse", "dense", default: "ab-sparse")',
    );
  });

  test.each([
    ["no file", ["ask"], /missing required argument/],
    ["an option that is none", ["ask", "a", "b", "--quick"], /unknown option/],
    ["a command that is none", ["summon"], /unknown command|too many arguments/],
    ["a mode that is none", ["ask", "a", "b", "--mode", "fast"], /ab-sparse/],
    ["a budget that is no number", ["ask", "a", "b", "--budget", "2k"], /whole number/],
    ["a budget of 0", ["ask", "a", "b", "--budget", "0"], /from 1/],
    ["a temperature below 0", ["ask", "a", "b", "--temperature=-1"], /from 0 to 10/],
    ["depths that are none", ["bench", "--depths", "512,x"], /whole number/],
    ["modes that are none", ["bench", "--mode", "dense,other"], /other/],
    ["no texts", ["calibrate"], /--texts/],
    ["a device that is none", ["doctor", "--device", "tpu"], /cuda/],
  ])("refuses %s with exit code 2", async (_name, argv, message) => {
    const { code, out, err } = await run(...argv);
    expect(code).toBe(2);
    expect(out).toBe("");
    expect(err).toMatch(message);
  });

  test("without arguments shows the commands", async () => {
    const { code, out } = await run();
    expect(code).toBe(0);
    expect(out).toContain("ask [options] <file> <question...>");
  });

  test("runs as a program", async () => {
    const entry = fileURLToPath(new URL("../../../cli/main.ts", import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, [entry, "--version"]);
    const packageFile = readFileSync(new URL("../../../package.json", import.meta.url), "utf8");
    expect(stdout.trim()).toBe(JSON.parse(packageFile).version);
  });
});
