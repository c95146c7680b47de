// The command line as people run it: a process of its own, on the real engine and the small model.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, vi } from "vitest";
import { guardNetwork } from "./network.ts";

// Each run starts processes and opens a model; other work may share the machine.
vi.setConfig({ testTimeout: 300_000 });

export const entry = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));
/** On a busy machine several threads wait for each other at every step. */
export const small = ["--model", "smollm2-135m", "--threads", "1"];

export interface Finished {
  code: number | null;
  out: string;
  err: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly finished: Promise<Finished>;
  /** What was written to standard error so far. */
  err(): string;
  out(): string;
  /** A signal to the command line and its host alike, as a terminal sends it. */
  signal(name: NodeJS.Signals): void;
}

export interface Place {
  /** The data folder, empty at first. */
  data: string;
  /** A folder for documents. */
  folder: string;
  start(args: string[], options?: { input?: string; env?: NodeJS.ProcessEnv }): Running;
  run(args: string[], options?: { input?: string; env?: NodeJS.ProcessEnv }): Promise<Finished>;
  /** Runs with `--json` and parses the one value on standard output. */
  json(args: string[], options?: { input?: string }): Promise<unknown>;
  write(name: string, content: string | Buffer): Promise<string>;
  /** Files of saved KV, of all models. */
  runFiles(): Promise<string[]>;
}

/** A place of its own for all tests of a file, from which nothing leaves the machine. */
export function usePlace(): Place {
  guardNetwork();
  const place = { data: "", folder: "" };
  beforeAll(async () => {
    place.folder = await mkdtemp(join(tmpdir(), "scholia-e2e-"));
    place.data = join(place.folder, "data");
  });
  afterAll(() => rm(place.folder, { recursive: true, force: true }));

  const start: Place["start"] = (args, { input, env } = {}) => {
    const child = spawn(process.execPath, [entry, ...args], {
      env: { ...process.env, SCHOLIA_DATA: place.data, NO_COLOR: "1", ...env },
      // A process group of its own, so that a signal can reach it as a terminal's would.
      detached: true,
      stdio: ["pipe", "pipe", "pipe"],
    });
    let out = "";
    let err = "";
    child.stdout.setEncoding("utf8").on("data", (text) => (out += text));
    child.stderr.setEncoding("utf8").on("data", (text) => (err += text));
    child.stdin.on("error", () => {});
    child.stdin.end(input ?? "");
    const finished = new Promise<Finished>((resolve) => {
      child.once("close", (code) => resolve({ code, out, err }));
    });
    const signal = (name: NodeJS.Signals) => process.kill(-child.pid!, name);
    return { child, finished, err: () => err, out: () => out, signal };
  };

  return {
    get data() {
      return place.data;
    },
    get folder() {
      return place.folder;
    },
    start,
    run: (args, options) => start(args, options).finished,
    async json(args, options) {
      const { code, out, err } = await start([...args, "--json"], options).finished;
      if (code !== 0) throw new Error(`exit code ${code}: ${err}${out}`);
      return JSON.parse(out);
    },
    async write(name, content) {
      const path = join(place.folder, name);
      await writeFile(path, content);
      return path;
    },
    async runFiles() {
      const folder = join(place.data, "reads");
      const names = await readdir(folder, { recursive: true }).catch(() => [] as string[]);
      return names.filter((name) => name.endsWith(".kv")).sort();
    },
  };
}

/** The host of a running command line: its one child. */
export async function hostOf(running: Running): Promise<number> {
  const path = `/proc/${running.child.pid}/task/${running.child.pid}/children`;
  return until(async () => {
    const [first] = (await readFile(path, "utf8")).trim().split(" ").filter(Boolean);
    return first === undefined ? undefined : Number(first);
  });
}

/** Waits until the look gives something. */
export async function until<Value>(
  look: () => Promise<Value | undefined> | Value | undefined,
  seconds = 120,
): Promise<Value> {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const value = await look();
    if (value !== undefined) return value;
    if (Date.now() > deadline) throw new Error(`nothing came within ${seconds} s`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
