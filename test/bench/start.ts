// How soon the window can be used, from the start of the process: `npm run bench:start`. Each start is the
// second or a later one, on a library with one document that was read.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { setUpElectron } from "../../build/electronDist.ts";
import { packageApp } from "../../build/package.ts";
import { root } from "../../build/paths.ts";
import { startHost } from "../../host/process.ts";
import { attach, attachable } from "../e2e/attach.ts";
import { openScreen } from "../e2e/desktop.ts";

const { values: options } = parseArgs({
  options: { repetitions: { type: "string", default: "5" } },
});

interface Start {
  /** Milliseconds from the start of the process until the window's page begins to load. */
  page: number;
  /** Until all of the first screen's scripts have run. */
  loaded: number;
  /** Until a question can be typed, or a document be dropped. */
  usable: number;
}

const folder = await mkdtemp(join(tmpdir(), "scholia-start-"));
const data = join(folder, "data");
const screen = await openScreen();
try {
  const electron = await setUpElectron();
  await readOneDocument();
  const release = { folder: join(folder, "release"), installers: false };
  const program = await packageApp(electron, release);
  const ways = {
    packaged: () => start(program, flags(join(folder, "packaged"))),
    npmStart: await npmStart(electron),
  };
  const rows: Record<string, Start[]> = {};
  for (let i = 0; i <= Number(options.repetitions); i++) {
    for (const [name, way] of Object.entries(ways)) {
      const row = await way();
      // The first one fills caches.
      if (i > 0) rows[name] = [...(rows[name] ?? []), row];
    }
  }
  const medians = Object.entries(rows).map(([name, row]) => [name, medianOf(row)]);
  const result = { rows, median: Object.fromEntries(medians) };
  process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
} finally {
  screen.process.kill();
  await rm(folder, { recursive: true, force: true });
}

function flags(profile: string): string[] {
  return ["--no-sandbox", "--disable-gpu", attachable, `--user-data-dir=${profile}`];
}

async function readOneDocument(): Promise<void> {
  const path = join(folder, "harbour.txt");
  await writeFile(path, "The harbour master keeps the key of the lighthouse in a blue jar.\n");
  const host = startHost({ dataDir: data });
  const settings = { model: "smollm2-135m", threads: 1 };
  await host.client.request("settings.set", settings);
  await host.client.request("documents.add", { path });
  await host.client.open("document.read", { path, ...settings, maxTokens: 16 }).result();
  await host.close();
}

/** `npm start`, whose Electron can be reached: a program of the same name adds the flags. */
async function npmStart(electron: string): Promise<() => Promise<Start>> {
  const dist = join(folder, "electron");
  await mkdir(dist);
  const program = join(dist, "electron");
  const all = flags(join(folder, "npm-start")).map((flag) => `"${flag}"`);
  await writeFile(program, `#!/bin/sh\nexec "${electron}" ${all.join(" ")} "$@"\n`);
  await chmod(program, 0o755);
  await symlink(join(dirname(electron), "version"), join(dist, "version"));
  return () => start("npm", ["start"], { ELECTRON_OVERRIDE_DIST_PATH: dist });
}

async function start(program: string, args: string[], env: NodeJS.ProcessEnv = {}): Promise<Start> {
  const begun = Date.now();
  const app = spawn(program, args, {
    cwd: root,
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, ...env, DISPLAY: screen.display, SCHOLIA_DATA: data },
  });
  const exited = once(app, "exit");
  const { browser, window } = await attach(app);
  await window.locator("#composer:enabled, button[class*=dropBox]").first().waitFor();
  const at = await window.evaluate<Start>(
    "({ page: performance.timeOrigin, loaded: performance.timing.domComplete, usable: Date.now() })",
  );
  await window.close();
  await exited;
  await browser.close();
  const since = (time: number): number => Math.round(time - begun);
  return { page: since(at.page), loaded: since(at.loaded), usable: since(at.usable) };
}

function medianOf(rows: readonly Start[]): Start {
  const middle = (numbers: number[]): number =>
    numbers.sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;
  return {
    page: middle(rows.map(({ page }) => page)),
    loaded: middle(rows.map(({ loaded }) => loaded)),
    usable: middle(rows.map(({ usable }) => usable)),
  };
}
