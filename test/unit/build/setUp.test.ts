import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { cudaWish } from "../../../build/cuda.ts";
import { needDiskSpace } from "../../../build/diskSpace.js";
import { arePackagesInstalled } from "../../../build/packages.ts";
import { duration } from "../../../build/report.js";
import { essence, mustRun, run } from "../../../build/run.js";
import { runStages } from "../../../build/stage.ts";
import { hashFiles } from "../../../build/stamp.ts";
import { findProgram, needTools } from "../../../build/tools.ts";

const root = join(import.meta.dirname, "../../..");
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "scholia-setup-"));
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true });
});

describe("the wish for CUDA", () => {
  test("is the variables', or that of the last build where they say nothing", () => {
    const keptAt = join(folder, "cuda.json");
    expect(cudaWish({}, keptAt)).toEqual({ from: "auto" });
    const wheels = { SCHOLIA_CUDA: "wheels", SCHOLIA_CUDA_ARCHITECTURES: "80,90a" };
    const wished = cudaWish(wheels, keptAt);
    expect(wished).toEqual({ from: "wheels", architectures: "80,90a" });
    writeFileSync(keptAt, JSON.stringify(wished));
    expect(cudaWish({}, keptAt)).toEqual(wished);
    expect(cudaWish({ SCHOLIA_CUDA: "off" }, keptAt)).toEqual({ from: "off" });
    expect(() => cudaWish({ SCHOLIA_CUDA: "on" }, keptAt)).toThrow(/auto, off or wheels, not "on"/);
  });
});

describe("npm packages", () => {
  const write = (name: string, packages: object) => {
    mkdirSync(join(folder, "node_modules"), { recursive: true });
    writeFileSync(join(folder, name), JSON.stringify({ packages }));
  };
  const wanted = {
    "": { version: "1.0.0" },
    "node_modules/a": { version: "1.2.3" },
    "node_modules/other-platform": { version: "1.0.0", optional: true },
  };

  test("are installed when npm's own record has each in its version", () => {
    write("package-lock.json", wanted);
    expect(arePackagesInstalled(folder)).toBe(false);
    write("node_modules/.package-lock.json", { "node_modules/a": { version: "1.2.3" } });
    expect(arePackagesInstalled(folder)).toBe(true);
  });

  test("are stale when one is missing or has another version", () => {
    write("package-lock.json", wanted);
    write("node_modules/.package-lock.json", { "node_modules/a": { version: "1.2.2" } });
    expect(arePackagesInstalled(folder)).toBe(false);
    write("node_modules/.package-lock.json", {});
    expect(arePackagesInstalled(folder)).toBe(false);
    write("node_modules/.package-lock.json", {
      "node_modules/a": { version: "1.2.3" },
      "node_modules/other-platform": { version: "0.9.0" },
    });
    expect(arePackagesInstalled(folder)).toBe(false);
  });

  test("name no registry and none of them has a version left open", () => {
    const lock = readFileSync(join(root, "package-lock.json"), "utf8");
    expect(lock).not.toContain('"resolved"');
    const { dependencies, devDependencies, optionalDependencies } = JSON.parse(
      readFileSync(join(root, "package.json"), "utf8"),
    );
    const all = { ...dependencies, ...devDependencies, ...optionalDependencies };
    for (const [name, version] of Object.entries(all))
      expect(version, name).toMatch(/^\d+\.\d+\.\d+(-[\w.]+)?$/);
  });
});

describe("the hash of sources", () => {
  test("follows names and contents, not times or order", () => {
    mkdirSync(join(folder, "in"));
    const write = (name: string, text: string) => writeFileSync(join(folder, "in", name), text);
    const hash = () => hashFiles([join(folder, "in")], folder);
    write("a", "1");
    write("b", "2");
    const first = hash();
    write("a", "1");
    expect(hash()).toBe(first);
    write("a", "2");
    write("b", "1");
    expect(hash()).not.toBe(first);
    write("a", "1");
    write("b", "2");
    expect(hash()).toBe(first);
    write("c", "");
    expect(hash()).not.toBe(first);
    expect(hashFiles([join(folder, "in", "a")], folder)).not.toBe(
      hashFiles([join(folder, "in", "a")], folder, ["other library"]),
    );
  });
});

describe("failures are one sentence", () => {
  test("no room on the disk", async () => {
    const place = join(folder, "not", "there", "yet");
    await expect(needDiskSpace(place, 1, "a test")).resolves.toBeUndefined();
    await expect(needDiskSpace(place, 1e18, "a test")).rejects.toThrow(
      /^Not enough disk space for a test: 1000000000000 MB are needed in .* SCHOLIA_CACHE/,
    );
  });

  test("a missing tool names its Debian package", () => {
    const lacking = { name: "a loom", isHere: () => false, debianPackage: "loom" };
    const here = { name: "air", isHere: () => true, debianPackage: "air" };
    expect(() => needTools([lacking, here], "Weaving")).toThrow(
      "Weaving needs a loom: install it (Debian, Ubuntu: apt-get install loom) and start again.",
    );
    expect(() => needTools([here], "Weaving")).not.toThrow();
  });

  test("a program that is not there, or fails", async () => {
    expect(await run("no-such-program-here", [])).toMatchObject({ code: 127 });
    await expect(
      mustRun("sh", ["-c", "echo one; echo two >&2; exit 3"], { problem: "It broke." }),
    ).rejects.toThrow(/^It broke\.\n(one\ntwo|two\none)$/);
  });

  test("of a long output, the first error is shown", () => {
    const lines = Array.from({ length: 100 }, (_, i) => `line ${i}`);
    expect(essence(lines.join("\n"))).toMatch(/^line 85\n(line \d+\n){13}line 99$/);
    lines[40] = "x.cpp:3: error: wrong";
    expect(essence(lines.join("\n"))).toMatch(/^line 38\nline 39\nx.cpp:3: error: wrong\nline 41/);
  });

  /** A PATH with these programs alone, and a checkout that has nothing built. */
  function startWithout(...missing: string[]): { status: number | null; stderr: string } {
    const bin = join(folder, "bin");
    mkdirSync(bin);
    for (const directory of (process.env.PATH ?? "").split(delimiter))
      for (const name of existsSync(directory) ? readdirSync(directory) : [])
        if (!missing.includes(name) && !existsSync(join(bin, name)))
          symlinkSync(join(directory, name), join(bin, name));
    const checkout = join(folder, "checkout");
    for (const part of ["build", "host", "contract", "models", "package.json", "package-lock.json"])
      cpSync(join(root, part), join(checkout, part), { recursive: true });
    for (const part of ["CMakeLists.txt", "package.json", "include", "engine", "backend", "addon"])
      cpSync(join(root, "native", part), join(checkout, "native", part), { recursive: true });
    symlinkSync(join(root, "node_modules"), join(checkout, "node_modules"));
    return spawnSync(process.execPath, ["build/withNode.js", "build/start.ts", "--help"], {
      cwd: checkout,
      encoding: "utf8",
      env: { ...process.env, PATH: bin },
    });
  }

  test("npm start without a compiler", () => {
    const { status, stderr } = startWithout("c++", "g++", "clang++");
    expect(stderr).toBe(
      "scholia: Building the engine needs a C++20 compiler: install it (Debian, Ubuntu: apt-get install g++) and start again.\n",
    );
    expect(status).toBe(1);
  });
});

describe("stages", () => {
  const stage = (name: string, passed: number, failed: number, skipped = 0) => ({
    name,
    run: async () => ({ passed, failed, skipped }),
  });

  async function printed(...stages: Parameters<typeof runStages>[0]) {
    const lines: string[] = [];
    vi.spyOn(console, "log").mockImplementation((line) => lines.push(line));
    const code = await runStages(stages);
    return { code, last: lines.at(-1), text: lines.join("\n") };
  }

  test("are added up on the last line", async () => {
    const { code, last } = await printed(stage("a", 3, 0), stage("b", 4, 0, 2));
    expect(code).toBe(0);
    expect(last).toBe("7 passed, 0 failed, 2 skipped");
  });

  test("end at the first that fails, and those left out are named", async () => {
    const { code, last, text } = await printed(
      stage("a", 1, 0),
      stage("b", 1, 1),
      stage("c", 9, 0),
    );
    expect(code).toBe(1);
    expect(last).toBe("2 passed, 1 failed");
    expect(text).toMatch(/b .*FAILED/);
    expect(text).toMatch(/c .*not run/);
  });
});

test("durations read well", () => {
  expect(duration(1234)).toBe("1.2 s");
  expect(duration(125_000)).toBe("2 min 5 s");
  expect(duration(119_900)).toBe("2 min 0 s");
});

test("programs are found on PATH", () => {
  expect(findProgram("sh")).toMatch(/\/sh$/);
  expect(findProgram("no-such-program-here")).toBeUndefined();
});
