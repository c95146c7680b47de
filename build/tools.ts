// Programs that the machine must have: a compiler and what goes with it.
import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { cacheDir } from "../host/models/cache.ts";
import { SetupError, step } from "./report.js";
import { mustRun, run } from "./run.js";

export interface Tool {
  /** As a sentence names it. */
  name: string;
  isHere: () => boolean;
  /** Debian's package that has it. */
  debianPackage: string;
}

/** The path of a program on PATH, if there is one. */
export function findProgram(...names: string[]): string | undefined {
  const folders = (process.env.PATH ?? "").split(delimiter);
  return names
    .flatMap((name) => folders.map((folder) => join(folder, name)))
    .find((path) => existsSync(path));
}

const program = (name: string, debianPackage: string, ...names: string[]): Tool => ({
  name,
  isHere: () => findProgram(...names) !== undefined,
  debianPackage,
});

export const compiler: Tool = program("a C++20 compiler", "g++", "c++", "g++", "clang++");
export const git: Tool = program("git", "git", "git");
export const cmake: Tool = program("CMake", "cmake", "cmake");
export const ninja: Tool = program("Ninja or make", "ninja-build", "ninja", "make");
export const python: Tool = program("Python 3", "python3", "python3");
export const pip: Tool = {
  name: "pip",
  isHere: () => findProgram("pip3", "pip") !== undefined,
  debianPackage: "python3-pip",
};
/** For tests of the window. */
export const browser: Tool = program(
  "Chromium",
  "chromium",
  "chromium",
  "chromium-browser",
  "google-chrome",
);
/** A screen in memory, for tests of the desktop app. */
export const xvfb: Tool = program("Xvfb", "xvfb", "Xvfb");
const systemLibrary = (file: string, debianPackage: string): Tool => ({
  name: file,
  isHere: () =>
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"].some((folder) =>
      existsSync(join(folder, file)),
    ),
  debianPackage,
});

/** What Electron links against and does not bring. */
export const electronLibraries: Tool[] = [
  systemLibrary("libgtk-3.so.0", "libgtk-3-0"),
  systemLibrary("libnss3.so", "libnss3"),
  systemLibrary("libgbm.so.1", "libgbm1"),
  systemLibrary("libasound.so.2", "libasound2"),
];

export const googleTest: Tool = {
  name: "GoogleTest",
  isHere: () =>
    ["/usr/include", "/usr/local/include"].some((d) => existsSync(`${d}/gtest/gtest.h`)),
  debianPackage: "libgtest-dev",
};

/** Fails with one sentence that names what is missing and how to install it. */
export function needTools(tools: readonly Tool[], purpose: string): void {
  const missing = tools.filter((tool) => !tool.isHere());
  if (missing.length === 0) return;
  const names = new Intl.ListFormat("en").format(missing.map((tool) => tool.name));
  const packages = missing.map((tool) => tool.debianPackage).join(" ");
  throw new SetupError(
    `${purpose} needs ${names}: install ${missing.length > 1 ? "them" : "it"} (Debian, Ubuntu: apt-get install ${packages}) and start again.`,
  );
}

/** Installs what is missing by apt-get where that can be done without asking: as root on Debian or
 * Ubuntu. Elsewhere it does nothing, and {@link needTools} says what to install. */
export async function installTools(tools: readonly Tool[]): Promise<void> {
  const missing = tools.filter((tool) => !tool.isHere()).map((tool) => tool.debianPackage);
  if (missing.length > 0 && canInstallDebianPackages()) await installDebianPackages(missing);
}

export const canInstallDebianPackages = (): boolean =>
  process.getuid?.() === 0 && existsSync("/etc/debian_version") && !!findProgram("apt-get");

async function installDebianPackages(packages: readonly string[]): Promise<void> {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const problem = `apt-get could not install ${packages.join(" ")}: install them and start again.`;
  await step(`Installing the Debian packages ${packages.join(" ")}`, async (progress) => {
    await updateDebianLists();
    const args = ["install", "--yes", "--no-install-recommends", ...packages];
    await mustRun("apt-get", args, { env, problem, onLine: progress });
  });
}

let areDebianListsNew = false;

/** Brings apt's package lists up to date, once in a run. */
export async function updateDebianLists(): Promise<void> {
  if (areDebianListsNew) return;
  await run("apt-get", ["update", "--quiet"]);
  areDebianListsNew = true;
}

/** The releases that pip brings where the machine has no CMake or no Ninja of its own. */
const buildWheels = ["cmake==3.31.6", "ninja==1.13.0"];

/**
 * An environment in which CMake runs and finds Ninja (or make): the machine's own, else their
 * wheels, fetched once into the cache.
 */
export async function buildEnvironment(): Promise<NodeJS.ProcessEnv> {
  const generator = findProgram("ninja") ? { CMAKE_GENERATOR: "Ninja" } : {};
  if ([cmake, ninja].every((tool) => tool.isHere())) return { ...process.env, ...generator };
  needTools([python], "Fetching CMake, which builds the engine,");
  const folder = join(cacheDir(), "tools", buildWheels.join("-").replaceAll("==", "-"));
  if (!existsSync(folder)) await step("Fetching CMake and Ninja (once)", () => fetchWheels(folder));
  const own = [join(folder, "cmake", "data", "bin"), join(folder, "bin")];
  const path = [...own, process.env.PATH].join(delimiter);
  return { ...process.env, PATH: path, CMAKE_GENERATOR: "Ninja" };
}

async function fetchWheels(folder: string): Promise<void> {
  const partial = `${folder}.${process.pid}`;
  await mkdir(join(folder, ".."), { recursive: true });
  const args = ["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"];
  args.push("--disable-pip-version-check", "--target", partial, ...buildWheels);
  try {
    await mustRun("python3", args, {
      problem:
        "CMake is missing and pip could not fetch it: install it (Debian, Ubuntu: apt-get install cmake ninja-build) and start again.",
    });
    await rename(partial, folder);
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
}
