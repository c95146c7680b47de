// The CUDA compiler, and what it means for the build: with one the engine is built for GPUs too.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { cacheDir } from "../host/models/cache.ts";
import { nativeBuildDir } from "./paths.ts";
import { SetupError, step } from "./report.js";
import { mustRun } from "./run.js";
import { findProgram } from "./tools.ts";

/** NVIDIA's compiler as Python packages: enough to compile, without a toolkit or a GPU. */
const compilerWheels = [
  "nvidia-cuda-nvcc==13.0.88",
  "nvidia-cuda-runtime==13.0.96",
  "nvidia-cuda-crt==13.0.88",
  "nvidia-nvvm==13.0.88",
  "nvidia-cuda-cccl==13.0.85",
];

const wheelsDir = (): string => join(cacheDir(), "tools", "cuda-13.0.88");
const wheelsCompiler = (): string => join(wheelsDir(), "nvidia", "cu13", "bin", "nvcc");

export interface CudaWish {
  /** `wheels` fetches the compiler where the machine has none, `off` builds without CUDA, `auto` builds
   * it where there is a compiler. */
  from: "auto" | "off" | "wheels";
  /** Fewer than all, as CI builds them, e.g. `90a`. */
  architectures?: string | undefined;
}

/** Where the wish of the last build is kept. */
const wishPath = join(nativeBuildDir, "cuda.json");

const wish = (): CudaWish => cudaWish(process.env, wishPath);

/** What `$SCHOLIA_CUDA` and `$SCHOLIA_CUDA_ARCHITECTURES` ask for. Where neither is there, what the engine
 * was last built for: a start without them must not build it anew without CUDA. */
export function cudaWish(env: NodeJS.ProcessEnv, keptAt: string): CudaWish {
  const { SCHOLIA_CUDA: from, SCHOLIA_CUDA_ARCHITECTURES: architectures } = env;
  if (from === undefined && architectures === undefined) return keptWish(keptAt);
  if (from === undefined) return { from: "auto", architectures };
  if (from === "auto" || from === "off" || from === "wheels") return { from, architectures };
  throw new SetupError(`SCHOLIA_CUDA is auto, off or wheels, not "${from}".`);
}

function keptWish(path: string): CudaWish {
  return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : { from: "auto" };
}

/** Keeps the wish that the engine was built for. */
export const keepCudaWish = (): void => writeFileSync(wishPath, JSON.stringify(wish()));

/** The machine's own nvcc: of CUDA_HOME, on PATH, or in the toolkit's usual place. */
function machineCompiler(): string | undefined {
  const home = process.env.CUDA_HOME;
  const ofHome = home ? join(home, "bin", "nvcc") : undefined;
  return [ofHome, findProgram("nvcc"), "/usr/local/cuda/bin/nvcc"].find(
    (path) => path !== undefined && existsSync(path),
  );
}

/** The compiler that would be used, without fetching it; undefined: CUDA is not built. */
function plannedCompiler(): string | undefined {
  if (wish().from === "off") return undefined;
  return machineCompiler() ?? (wish().from === "wheels" ? wheelsCompiler() : undefined);
}

/** What the tests are compiled for where nobody wished for CUDA: enough to see that it compiles. */
const testArchitectures = "90a";

/** What of this the engine's build depends on, as text for its stamp. */
export const describeCuda = (): string =>
  [plannedCompiler() ?? "no CUDA", wish().architectures ?? "all"].join(" ");

/** CMake's settings for CUDA, none where it is not built. Fetches the compiler if it was wished for. */
export async function cudaSettings(): Promise<string[]> {
  const compiler = plannedCompiler();
  if (compiler === undefined) return [];
  if (!existsSync(compiler)) await fetchWheels();
  return settingsFor(compiler, wish().architectures);
}

/** CMake's settings for the tests of the CUDA backend, which are built on every machine: as the engine
 * where that has CUDA, else with the fetched compiler. */
export async function cudaTestSettings(): Promise<string[]> {
  if (plannedCompiler() !== undefined) return cudaSettings();
  return settingsFor(wheelsCompiler(), wish().architectures ?? testArchitectures);
}

function settingsFor(compiler: string, some: string | undefined): string[] {
  const settings = ["SCHOLIA_CUDA=ON", `SCHOLIA_NVCC=${compiler}`];
  if (some !== undefined) settings.push(`SCHOLIA_CUDA_ARCHITECTURES=${some.replaceAll(",", ";")}`);
  return settings;
}

/** Brings a compiler for {@link cudaTestSettings}. Returns why there is none: `SCHOLIA_CUDA=off`, or it
 * cannot be fetched, which is an error only where `SCHOLIA_CUDA=wheels` asked for it. */
export async function bringTestCompiler(): Promise<string | undefined> {
  if (wish().from === "off") return "SCHOLIA_CUDA is off.";
  if (existsSync(plannedCompiler() ?? wheelsCompiler())) return undefined;
  try {
    await fetchWheels();
  } catch (error) {
    if (wish().from === "wheels" || !(error instanceof SetupError)) throw error;
    return error.message.split("\n")[0];
  }
}

const fetchWheels = (): Promise<void> =>
  step("Fetching NVIDIA's compiler (once, 300 MB)", async () => {
    const partial = `${wheelsDir()}.${process.pid}`;
    await mkdir(join(partial, ".."), { recursive: true });
    const args = ["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"];
    args.push("--disable-pip-version-check", "--target", partial, ...compilerWheels);
    try {
      await mustRun("python3", args, {
        problem:
          "pip could not fetch NVIDIA's compiler: set SCHOLIA_CUDA=off, or install the toolkit.",
      });
      await rename(partial, wheelsDir());
    } finally {
      await rm(partial, { recursive: true, force: true });
    }
  });
