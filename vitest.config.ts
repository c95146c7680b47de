import { defineConfig } from "vitest/config";

// Tests of quality take many minutes; `npm run test:full` runs them too.
const folders = process.env.SCHOLIA_TEST_FULL ? "{unit,addon,e2e,quality}" : "{unit,addon,e2e}";

export default defineConfig({
  test: {
    include: [`test/${folders}/**/*.test.{ts,tsx}`],
    // Engines run several threads of their own, and the files share the machine's memory.
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 300_000,
    // A busy machine takes its time to show what is waited for.
    expect: { poll: { timeout: 15_000 } },
  },
});
