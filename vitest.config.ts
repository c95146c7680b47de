import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/{unit,addon,e2e}/**/*.test.ts"],
    // Engines run several threads of their own, and the files share the machine's memory.
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 300_000,
  },
});
