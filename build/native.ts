// The engine: ggml's and libllama's libraries and headers, and the addon.
import { existsSync } from "node:fs";
import { cp, mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { availableParallelism, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { downloadsDir, nativeDir, nativeVersion } from "../host/models/cache.ts";
import { cudaSettings, describeCuda, keepCudaWish } from "./cuda.ts";
import { needDiskSpace } from "./diskSpace.js";
import { type NpmTarball, unpackNpmTarball } from "./npmTarball.js";
import { addonPath, nativeBuildDir, root } from "./paths.ts";
import { SetupError, step } from "./report.js";
import { mustRun } from "./run.js";
import { hashFiles, isStamped, writeStamp } from "./stamp.ts";
import { buildEnvironment, compiler, git, needTools } from "./tools.ts";

/** The package that holds llama.cpp's source, as a git bundle, at the commit of the libraries. */
const sourcePackage: NpmTarball = {
  name: "node-llama-cpp",
  version: nativeVersion,
  integrity:
    "sha512-bltIipuWmc123H7tMIgDGKSsSrhmhlQYeVUC48XTjVW7XGJJiJJyCdlTMzQ/LiWoPkGDpcL4FviDpgw7qfTiDw==",
  unpackedBytes: 40e6,
};

/** Where the source has what the cache keeps under `include/`: see `native/CMakeLists.txt`. */
const headerFolders = { include: ".", "ggml/include": ".", "vendor/hash": "hash" };

const buildBytes = 300e6;
/** What one run of the compiler may take. */
const compilerBytes = 1.5e9;

const areLibrariesHere = (): boolean => existsSync(nativeDir());

/** Fails early, before anything is fetched, when what builds the engine is missing. */
export function needNativeTools(): void {
  if (!existsSync(addonPath) || !areLibrariesHere())
    needTools([compiler, git], "Building the engine");
}

/** Whether the libraries are there and the addon was built from just these sources. */
export const isNativeBuilt = (): boolean => areLibrariesHere() && isAddonNew(hashSources());

const isAddonNew = (hash: string): boolean => existsSync(addonPath) && isStamped(stampPath, hash);

/** Brings the libraries and builds the addon unless both are there and new. */
export async function setUpNative(): Promise<void> {
  needTools([compiler, git], "Building the engine");
  if (!areLibrariesHere()) await bringLibraries();
  const hash = hashSources();
  if (!isAddonNew(hash)) await buildAddon(hash);
}

async function bringLibraries(): Promise<void> {
  if (`${process.platform}-${process.arch}` !== "linux-x64")
    throw new SetupError(
      `Scholia's engine is made for Linux on x86-64 so far, and this is ${process.platform} on ${process.arch}.`,
    );
  await step("Fetching ggml and libllama (once, 36 MB)", async () => {
    await mkdir(downloadsDir(), { recursive: true });
    await mkdir(dirname(nativeDir()), { recursive: true });
    const work = await mkdtemp(join(downloadsDir(), "native-"));
    try {
      await copyHeaders(work, join(work, "native"));
      await copyLibraries(join(work, "native", "lib"));
      await rename(join(work, "native"), nativeDir());
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  });
}

async function copyHeaders(work: string, to: string): Promise<void> {
  const source = join(work, "source");
  const repository = join(work, "repository");
  await unpackNpmTarball(sourcePackage, source, ["llama/gitRelease.bundle"]);
  const problem = "Could not unpack llama.cpp's source.";
  const bundle = join(source, "llama", "gitRelease.bundle");
  await mustRun("git", ["clone", "--quiet", "--no-checkout", bundle, repository], { problem });
  const paths = ["LICENSE", ...Object.keys(headerFolders)];
  await mustRun("git", ["-C", repository, "checkout", "--quiet", "HEAD", "--", ...paths], {
    problem,
  });
  for (const [from, into] of Object.entries(headerFolders))
    await cp(join(repository, from), join(to, "include", into), { recursive: true });
  await cp(join(repository, "LICENSE"), join(to, "LICENSE"));
}

async function copyLibraries(to: string): Promise<void> {
  const from = join(root, "node_modules/@node-llama-cpp/linux-x64/bins/linux-x64");
  if (!existsSync(from))
    throw new SetupError(
      "The package @node-llama-cpp/linux-x64 is not installed, and npm left it out without a word: run npm ci --include=optional and start again.",
    );
  await mkdir(to, { recursive: true });
  for (const name of await readdir(from))
    if (/^lib(ggml|llama\.)/.test(name)) await cp(join(from, name), join(to, name));
}

/** Says of which sources the addon was built. */
const stampPath = join(nativeBuildDir, "Release", "stamp");

async function buildAddon(hash: string): Promise<void> {
  await needDiskSpace(nativeBuildDir, buildBytes, "building the engine");
  const env = await buildEnvironment();
  const cuda = await cudaSettings();
  await step(
    `Building the engine (about 2 min)${cuda.length > 0 ? ", with CUDA" : ""}`,
    (progress) => compileAddon(env, cuda, progress),
  );
  keepCudaWish();
  writeStamp(stampPath, hash);
}

/** What the addon is made from: sources, the libraries' place, and the Node-API headers. */
function hashSources(): string {
  const sources = ["CMakeLists.txt", "package.json", "include", "engine", "backend", "addon"];
  const others = ["peer", "bench"].map((name) => join(root, "native", name)).filter(existsSync);
  const packages = ["node-addon-api", "node-api-headers", "cmake-js"].map((name) =>
    join(root, "node_modules", name, "package.json"),
  );
  const paths = sources.map((name) => join(root, "native", name));
  return hashFiles([...paths, ...others, ...packages], root, [nativeDir(), describeCuda()]);
}

async function compileAddon(
  env: NodeJS.ProcessEnv,
  cuda: readonly string[],
  progress: (text: string) => void,
): Promise<void> {
  const cmakeJs = join(root, "node_modules/cmake-js/bin/cmake-js");
  // Written anew each time: the settings of an earlier set-up (another compiler, another cache) must
  // not stay. What is already compiled stays, as far as it fits.
  await rm(join(nativeBuildDir, "CMakeCache.txt"), { force: true });
  const args = [cmakeJs, "build", "--config", "Release", "--parallel", String(compilerJobs())];
  args.push("--directory", join(root, "native"), "--out", nativeBuildDir);
  args.push(`--CDSCHOLIA_LLAMA_DIR=${nativeDir()}`);
  args.push(...cuda.map((setting) => `--CD${setting}`));
  await mustRun(process.execPath, args, {
    env,
    onLine: (line) => /^\[/.test(line) && progress(line),
    problem: "The engine could not be built; the first error:",
  });
}

/** As many compilers as there are cores, if the memory carries them. */
export const compilerJobs = (): number =>
  Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / compilerBytes)));
