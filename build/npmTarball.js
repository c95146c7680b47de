// Packages that are files to us, not dependencies: Node itself, and llama.cpp's source.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { cacheDir } from "../host/models/cacheDir.js";
import { needDiskSpace } from "./diskSpace.js";
import { SetupError } from "./report.js";
import { mustRun } from "./run.js";

/**
 * A published npm package at one version.
 * @typedef {{name: string, version: string, integrity: string, unpackedBytes: number}} NpmTarball
 *   `integrity` as in a lock file: `sha512-<base64>`
 */

/**
 * Fetches a package by the npm client as the machine has it set up, checks it against the pinned
 * integrity and unpacks it (or `members` of it) to `folder`, which appears whole or not at all.
 * @param {NpmTarball} tarball
 * @param {string} folder must not exist
 * @param {string[]} [members] paths inside the package; all when left out
 */
export async function unpackNpmTarball(tarball, folder, members = []) {
  await mkdir(dirname(folder), { recursive: true });
  await mkdir(join(cacheDir(), "downloads"), { recursive: true });
  await needDiskSpace(folder, tarball.unpackedBytes * 1.5, `the npm package ${tarball.name}`);
  const work = await mkdtemp(join(cacheDir(), "downloads", "npm-"));
  try {
    const file = await npmPack(tarball, work);
    await checkIntegrity(file, tarball);
    await mustRun(
      "tar",
      ["-xzf", file, "-C", work, ...members.map((member) => `package/${member}`)],
      { problem: `Could not unpack the npm package ${tarball.name}.` },
    );
    await rename(join(work, "package"), folder);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/**
 * @param {NpmTarball} tarball
 * @param {string} folder
 */
async function npmPack({ name, version }, folder) {
  const args = ["pack", `${name}@${version}`, "--pack-destination", folder, "--silent"];
  const { stdout } = await mustRun("npm", args, {
    problem: `Could not fetch the npm package ${name} ${version}: check the network and npm's settings, then start again.`,
  });
  return join(folder, stdout.trim().split("\n").pop() ?? "");
}

/**
 * @param {string} file
 * @param {NpmTarball} tarball
 */
async function checkIntegrity(file, { name, version, integrity }) {
  const hash = createHash("sha512");
  for await (const chunk of createReadStream(file)) hash.update(chunk);
  if (`sha512-${hash.digest("base64")}` === integrity) return;
  throw new SetupError(
    `The npm package ${name} ${version} is not the one that Scholia was made with (its checksum differs): check which registry npm uses.`,
  );
}
