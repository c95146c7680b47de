import { describe, expect, test } from "vitest";
import { runChild } from "./support.ts";

/** Each case is a process of its own that must end by itself, quickly, without a crash. */
async function expectEnd(name: string, code: number, args: string[] = []): Promise<string> {
  const child = await runChild(name, args);
  expect(child, child.output).toMatchObject({ signal: null, code });
  return child.output;
}

describe("a process ends cleanly", () => {
  test.each([
    ["by itself, with an open engine", "idle", 0],
    ["by process.exit() with an open engine", "exitIdle", 3],
    ["by process.exit() during a prefill", "exitInPrefill", 3],
    ["by process.exit() in the progress callback", "exitInCallback", 3],
    ["by process.exit() during an answer, with jobs waiting", "exitInAnswer", 3],
    ["by process.exit() while a model loads", "exitInOpen", 3],
    ["by process.exit() with two engines at work", "exitWithTwo", 3],
    ["by an uncaught exception during a prefill", "uncaught", 1],
  ])("%s", async (_name, how, code) => {
    const output = await expectEnd("ends.ts", code, [how]);
    expect(output).toContain(`reached: ${how}`);
  });

  test("only after a promise that is awaited", async () => {
    expect(await expectEnd("ends.ts", 0, ["awaited"])).toContain("prefilled 200");
  });
});

describe("worker threads", () => {
  test("load the addon, answer, and end", async () => {
    expect(await expectEnd("workers.ts", 0, ["answer"])).toContain("two workers agree");
  });

  test("are terminated during a prefill, again and again", async () => {
    expect(await expectEnd("workers.ts", 0, ["terminate"])).toContain("terminated 6");
  });

  test("are terminated at any moment", async () => {
    expect(await expectEnd("workers.ts", 0, ["anyMoment"])).toContain("terminated 20");
  });

  test("call process.exit() during a prefill", async () => {
    expect(await expectEnd("workers.ts", 0, ["exit"])).toContain("codes 5,5,5");
  });

  test("go with the process while they prefill", async () => {
    await expectEnd("workers.ts", 3, ["processExit"]);
  });
});
