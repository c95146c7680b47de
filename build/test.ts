// `npm test` and `npm run test:full`: sets up what is missing, then runs everything.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { fetchDocuments } from "./documents.ts";
import { fetchWithProgress } from "./models.ts";
import {
  addressTests,
  plainTests,
  quickAddressTests,
  runCudaTests,
  runNativeTests,
  threadTests,
} from "./nativeTests.ts";
import { nativeBuildDir, root } from "./paths.ts";
import { setUp } from "./setUp.ts";
import { show } from "./show.ts";
import { checked, type Outcome, runAsProgram, runStages, type Stage } from "./stage.ts";
import {
  browser,
  cmake,
  compiler,
  electronLibraries,
  git,
  googleTest,
  installTools,
  needTools,
  ninja,
  pip,
  xvfb,
} from "./tools.ts";

/** The two models that tests run on. */
const testModels = ["smollm2-135m", "qwen2.5-coder-0.5b"];

const neededTools = [compiler, git, pip, googleTest, browser, xvfb, ...electronLibraries];

async function setUpTests(): Promise<void> {
  await installTools([...neededTools, cmake, ninja]);
  needTools(neededTools, "npm test");
  await setUp();
  for (const id of testModels) await fetchWithProgress(id);
  await fetchDocuments();
}

const bin = (name: string): string => join(root, "node_modules", ".bin", name);

const lint: Stage = {
  name: "lint and format",
  run: async () => checked(await show(bin("biome"), ["ci", "--error-on-warnings", "."])),
};

const typecheck: Stage = {
  name: "types",
  run: async () => checked(await show(bin("tsc"), ["--build"])),
};

const native: Stage = { name: "native tests", run: () => runNativeTests(plainTests) };

const cuda: Stage = { name: "CUDA kernels and tests", run: runCudaTests };

const address = (build: typeof addressTests): Stage => ({
  name: "native tests, address sanitizer",
  run: () => runNativeTests(build),
});

const thread: Stage = { name: "queue, thread sanitizer", run: () => runNativeTests(threadTests) };

/** The tests of one folder under `test/`, by vitest. */
const vitest = (folder: string): Stage => ({
  name: `${folder} tests`,
  run: async () => {
    const report = join(nativeBuildDir, `vitest-${folder}.json`);
    await mkdir(nativeBuildDir, { recursive: true });
    await rm(report, { force: true });
    const args = [join(root, "node_modules/vitest/vitest.mjs"), "run", `test/${folder}/`];
    args.push("--reporter=default", "--reporter=json", `--outputFile.json=${report}`);
    const code = await show(process.execPath, args);
    return vitestOutcome(report, code);
  },
});

function vitestOutcome(report: string, code: number): Outcome {
  try {
    const { numPassedTests, numFailedTests, numPendingTests } = JSON.parse(
      readFileSync(report, "utf8"),
    );
    const failed = Math.max(numFailedTests, code === 0 ? 0 : 1);
    return { passed: numPassedTests, failed, skipped: numPendingTests };
  } catch {
    return { passed: 0, failed: 1, skipped: 0 };
  }
}

const hasTests = (folder: string): boolean =>
  existsSync(join(root, "test", folder)) &&
  readdirSync(join(root, "test", folder), { recursive: true }).some((name) =>
    String(name).endsWith(".test.ts"),
  );

const vitestStages = (...folders: string[]): Stage[] => folders.filter(hasTests).map(vitest);

async function test(full: boolean): Promise<number> {
  await setUpTests();
  if (full) process.env.SCHOLIA_TEST_FULL = "1";
  return runStages([
    lint,
    typecheck,
    native,
    cuda,
    address(full ? addressTests : quickAddressTests),
    thread,
    ...vitestStages("unit", "addon", "e2e"),
    ...(full ? vitestStages("quality") : []),
  ]);
}

if (process.argv[1] === import.meta.filename)
  await runAsProgram(() => test(process.argv.includes("--full")));
