import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { needDiskSpace } from "./diskSpace.js";
import { root } from "./paths.ts";
import { step } from "./report.js";
import { mustRun } from "./run.js";

interface LockFile {
  packages: Record<string, { version?: string; optional?: boolean }>;
}

const packagesBytes = 400e6;

/** Installs the npm packages of the lock file unless they are here. */
export async function installPackages(): Promise<void> {
  if (arePackagesInstalled(root)) return;
  await needDiskSpace(root, packagesBytes, "Scholia's npm packages");
  await step("Installing npm packages (about 10 s)", () =>
    mustRun("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], {
      cwd: root,
      problem:
        "npm ci could not install Scholia's packages: check the network and npm's settings, then start again.",
    }),
  );
}

/**
 * Whether what npm says it installed (`node_modules/.package-lock.json`, which it writes last) has
 * every package of the lock file in that version. Optional ones of other platforms may lack.
 */
export function arePackagesInstalled(folder: string): boolean {
  const installedPath = join(folder, "node_modules", ".package-lock.json");
  if (!existsSync(installedPath)) return false;
  const installed = readLockFile(installedPath).packages;
  const wanted = readLockFile(join(folder, "package-lock.json")).packages;
  return Object.entries(wanted).every(([path, { version, optional }]) => {
    const have = installed[path];
    if (!have) return path === "" || optional === true;
    return have.version === version;
  });
}

const readLockFile = (path: string): LockFile => JSON.parse(readFileSync(path, "utf8"));
