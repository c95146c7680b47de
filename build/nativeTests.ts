// Builds and runs the native tests (GoogleTest), plain and with sanitizers.
import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { modelsDir, nativeDir } from "../host/models/cache.ts";
import { bringTestCompiler, cudaSettings, cudaTestSettings } from "./cuda.ts";
import { compilerJobs } from "./native.ts";
import { nativeBuildDir, root } from "./paths.ts";
import { step } from "./report.js";
import { mustRun } from "./run.js";
import { show } from "./show.ts";
import type { Outcome } from "./stage.ts";
import { buildEnvironment } from "./tools.ts";

interface NativeBuild {
  /** Folder under `native/build/`; the addon's own when left out, whose objects serve both. */
  folder?: string;
  /** For `-fsanitize=`. */
  sanitize?: string;
  /** CMake's settings for CUDA; without it when left out. */
  cuda?: () => Promise<string[]>;
  /** Test programs to build and run. */
  programs: string[];
  /** Which tests, as GoogleTest's filter; all when left out. */
  filter?: string;
}

/** All native tests, at full speed. */
export const plainTests: NativeBuild = {
  programs: ["scholia_tests", "engine_thread_tests"],
  cuda: cudaSettings,
};

/** The CUDA backend's tests. Those that need a GPU skip where there is none. */
const cudaTests: NativeBuild = { programs: ["cuda_tests"], cuda: cudaTestSettings };

/** All native tests of the processor's code, watched for wrong addresses and undefined behaviour. */
export const addressTests: NativeBuild = {
  folder: "test-address",
  sanitize: "address,undefined",
  programs: ["scholia_tests", "engine_thread_tests"],
};

/** The same without the tests that run models, which take many times as long when watched. */
export const quickAddressTests: NativeBuild = {
  ...addressTests,
  filter: "-PipelineTest.*:Models/*",
};

/** The engine's queue, watched for data races: ggml's prebuilt libraries are not instrumented, so what
 * calls them cannot be watched. */
export const threadTests: NativeBuild = {
  folder: "test-thread",
  sanitize: "thread",
  programs: ["engine_thread_tests"],
};

/** Builds and runs the tests of a build. */
export async function runNativeTests(build: NativeBuild): Promise<Outcome> {
  await step("Building the native tests", (progress) => compile(build, progress));
  const outcome: Outcome = { passed: 0, failed: 0, skipped: 0 };
  for (const program of build.programs) {
    const { passed, failed, skipped } = await runProgram(build, program);
    outcome.passed += passed;
    outcome.failed += failed;
    outcome.skipped += skipped;
  }
  return outcome;
}

/** Compiles the CUDA backend and runs its tests; says so where there is no compiler. */
export async function runCudaTests(): Promise<Outcome> {
  const whyNot = await bringTestCompiler();
  if (whyNot === undefined) return runNativeTests(cudaTests);
  console.log(`The CUDA backend is not compiled: ${whyNot}`);
  return { passed: 0, failed: 0, skipped: 1 };
}

async function compile(
  { folder = "", sanitize = "", programs, cuda = async () => [] }: NativeBuild,
  progress: (text: string) => void,
): Promise<void> {
  const env = await buildEnvironment();
  const to = join(nativeBuildDir, folder);
  const settings = [`-DSCHOLIA_LLAMA_DIR=${nativeDir()}`, "-DSCHOLIA_BUILD_TESTS=ON"];
  settings.push(`-DSCHOLIA_SANITIZE=${sanitize}`);
  // The folder may have been set up for CUDA before.
  settings.push("-USCHOLIA_CUDA*", ...(await cuda()).map((setting) => `-D${setting}`));
  const problem = "The native tests could not be built; the first error:";
  await mkdir(to, { recursive: true });
  await mustRun("cmake", ["-S", join(root, "native"), "-B", to, ...settings], { env, problem });
  const jobs = String(compilerJobs());
  const args = ["--build", to, "--parallel", jobs, "--target", ...programs];
  const onLine = (line: string) => /^\[/.test(line) && progress(line);
  await mustRun("cmake", args, { env, problem, onLine });
}

interface GoogleTestReport {
  tests: number;
  failures: number;
  errors: number;
  testsuites: { testsuite: { result: string }[] }[];
}

async function runProgram(
  { folder = "", filter = "*" }: NativeBuild,
  program: string,
): Promise<Outcome> {
  const report = join(nativeBuildDir, folder, `${program}.json`);
  await rm(report, { force: true });
  const code = await show(join(nativeBuildDir, folder, program), [], {
    SCHOLIA_TEST_MODELS: modelsDir(),
    GTEST_OUTPUT: `json:${report}`,
    GTEST_FILTER: filter,
    UBSAN_OPTIONS: "print_stacktrace=1:halt_on_error=1",
  });
  const { tests, failures, errors, testsuites } = await readReport(report);
  const skipped = testsuites
    .flatMap(({ testsuite }) => testsuite)
    .filter(({ result }) => result === "SKIPPED").length;
  // A program that died, or that a sanitizer ended, has failed whatever its report says.
  const failed = Math.max(failures + errors, code === 0 ? 0 : 1);
  return { passed: Math.max(0, tests - failures - errors - skipped), failed, skipped };
}

async function readReport(path: string): Promise<GoogleTestReport> {
  try {
    return JSON.parse(await readFile(path, "utf8"));
  } catch {
    return { tests: 0, failures: 1, errors: 0, testsuites: [] };
  }
}
