import { duration, fail } from "./report.js";

/** What a stage of the tests came to, in tests. A check without tests of its own counts as one. */
export interface Outcome {
  passed: number;
  failed: number;
  skipped: number;
}

export interface Stage {
  name: string;
  run: () => Promise<Outcome>;
}

/** The outcome of a check that only passes or fails. */
export const checked = (code: number): Outcome => ({
  passed: code === 0 ? 1 : 0,
  failed: code === 0 ? 0 : 1,
  skipped: 0,
});

/**
 * Runs the stages in order up to the first that fails, then prints how long each took and the line
 * `N passed, N failed` (with `, N skipped` if there are any). Returns the exit code.
 */
export async function runStages(stages: readonly Stage[]): Promise<number> {
  const total: Outcome = { passed: 0, failed: 0, skipped: 0 };
  const rows: string[] = [];
  const begin = performance.now();
  for (const { name, run } of stages) {
    console.log(`\n== ${name}`);
    const start = performance.now();
    const { passed, failed, skipped } = await run();
    total.passed += passed;
    total.failed += failed;
    total.skipped += skipped;
    const took = duration(performance.now() - start).padStart(12);
    rows.push(`${name.padEnd(32)}${took}   ${failed > 0 ? "FAILED" : "passed"}`);
    if (failed > 0) break;
  }
  for (const { name } of stages.slice(rows.length)) rows.push(`${name.padEnd(47)}not run`);
  console.log(
    `\n${rows.join("\n")}\n${"".padEnd(32)}${duration(performance.now() - begin).padStart(12)}`,
  );
  const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : "";
  console.log(`${total.passed} passed, ${total.failed} failed${skipped}`);
  return total.failed > 0 ? 1 : 0;
}

/** Runs set-up and stages as a program of its own. */
export async function runAsProgram(work: () => Promise<number>): Promise<void> {
  try {
    process.exitCode = await work();
  } catch (error) {
    console.log("0 passed, 1 failed");
    fail(error);
  }
}
