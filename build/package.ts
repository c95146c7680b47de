// `npm run package`: the desktop app as a folder that runs without this repository, under release/. With
// `-- --installers` also what this system installs: AppImage and deb, dmg, or nsis.
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { build, Platform } from "electron-builder";
import { nativeDir } from "../host/models/cache.ts";
import { withLock } from "../host/models/lock.ts";
import { setUpElectronApp } from "./electronApp.ts";
import { bringElectron } from "./electronDist.ts";
import { setUpHostBundle } from "./hostBundle.ts";
import { version } from "./nodeBundle.ts";
import { packageConfiguration } from "./packageConfiguration.ts";
import { addonPath, appDist, releaseDir, root } from "./paths.ts";
import { setUpRenderer } from "./renderer.ts";
import { fail, SetupError, say, step } from "./report.js";
import { setUp } from "./setUp.ts";

export interface PackageOptions {
  /** Where the app's folder goes. */
  folder: string;
  /** Also what this system installs. */
  installers: boolean;
}

/** Packages the app with this Electron program.
 * @returns the packaged program */
export async function packageApp(electron: string, options: PackageOptions): Promise<string> {
  const electronDist = dirname(electron);
  const electronVersion = await versionOf(electronDist);
  await setUpRenderer();
  await setUpElectronApp();
  await setUpHostBundle(electronVersion);
  let program = "";
  const config = packageConfiguration({
    electronDist,
    electronVersion,
    folder: options.folder,
    onPacked: (path) => {
      program = path;
    },
  });
  const pack = async () => {
    await stageNative();
    await stageFiles();
    const targets = Platform.current().createTarget(options.installers ? null : "dir");
    await build({ projectDir: root, targets, config, publish: "never" });
  };
  await step("Packaging the desktop app", () => withLock(join(appDist, "package.lock"), pack));
  return program;
}

const versionOf = async (electronDist: string): Promise<string> =>
  (await readFile(join(electronDist, "version"), "utf8")).trim().replace(/^v/, "");

const { resolve } = createRequire(import.meta.url);

/** What the system's loader opens: the addon with its libraries, and SQLite's addon. */
async function stageNative(): Promise<void> {
  const native = join(appDist, "native");
  const release = join(native, "build", "Release");
  await rm(native, { recursive: true, force: true });
  await mkdir(release, { recursive: true });
  await cp(addonPath, join(release, "scholia.node"));
  await cp(join(nativeDir(), "lib"), join(release, "lib"), { recursive: true });
  await cp(join(nativeDir(), "LICENSE"), join(native, "LICENSE.llama.cpp"));
  const sqlite = join(dirname(resolve("@photostructure/sqlite")), "..", "prebuilds");
  const prebuilt = join(`${process.platform}-${process.arch}`, "@photostructure+sqlite.glibc.node");
  await cp(join(sqlite, prebuilt), join(native, "sqlite.node"));
}

/** The head profiles, the sample, and what the app says of itself. */
async function stageFiles(): Promise<void> {
  for (const folder of ["models/profiles", "sample"]) {
    await rm(join(appDist, folder), { recursive: true, force: true });
    await cp(join(root, folder), join(appDist, folder), { recursive: true });
  }
  const { description, license } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  const facts = { name: "scholia", version, description, license, main: "electron/main.cjs" };
  await writeFile(join(appDist, "package.json"), JSON.stringify(facts));
}

async function packageHere(installers: boolean): Promise<void> {
  await setUp();
  const electron = bringElectron();
  if (electron === undefined) {
    throw new SetupError("Electron could not be fetched: check the network and start again.");
  }
  await needShippedElectron(electron, installers);
  const program = await packageApp(electron, { folder: releaseDir, installers });
  process.stdout.write(`${program}\n`);
}

/** What others install is made of the Electron that the project names. */
async function needShippedElectron(electron: string, installers: boolean): Promise<void> {
  const { devDependencies } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  const here = await versionOf(dirname(electron));
  if (here === devDependencies.electron) return;
  const what = `Electron ${here} is here, and Scholia ships ${devDependencies.electron}`;
  if (installers) throw new SetupError(`${what}: fetch that one for installers.`);
  say(`${what}: this package is for trying only.`);
}

if (process.argv[1] === import.meta.filename)
  await packageHere(process.argv.includes("--installers")).catch(fail);
