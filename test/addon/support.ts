/** What the addon's tests share: the real addon, the small model, and child processes. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll } from "vitest";
import {
  type EngineConfig,
  libraryDir,
  loadAddon,
  type NativeAddon,
} from "../../host/engine/addon.ts";
import { Engine } from "../../host/engine/engine.ts";
import { modelsDir } from "../../host/models/cache.ts";

export const smollm2: string = join(modelsDir(), "smollm2-135m.gguf");

/** The addon without the host's wrapping, ready to open models. */
export function nativeAddon(): NativeAddon {
  const addon = loadAddon();
  addon.initialise(libraryDir());
  return addon;
}

/** One engine for all tests of a file. It has one thread, because on a busy machine several wait for
 * each other at every step. */
export function useEngine(config: Partial<EngineConfig> = {}): () => Engine {
  let engine: Engine | undefined;
  beforeAll(async () => {
    engine = await Engine.open({ modelPath: smollm2, threads: 1, ...config });
  });
  afterAll(() => engine?.close());
  return () => {
    if (engine === undefined) throw new Error("the engine did not open");
    return engine;
  };
}

/** A folder of its own for all tests of a file. */
export function useFolder(): () => string {
  let folder = "";
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "scholia-addon-"));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));
  return () => folder;
}

/** n tokens of plain words, the same every time, no two stretches alike. */
export function someTokens(n: number, seed = 1): Int32Array {
  let state = seed;
  return Int32Array.from({ length: n }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return 300 + ((state >>> 8) % 30_000);
  });
}

export const englishText: string = readFileSync(
  fileURLToPath(new URL("../../LICENSE", import.meta.url)),
  "utf8",
);

/** Some thousand tokens of prose about one thing. */
export const repositoryText: string = ["decisions", "quality", "documents", "window"]
  .map((name) =>
    readFileSync(fileURLToPath(new URL(`../../docs/${name}.md`, import.meta.url)), "utf8"),
  )
  .join("\n");

export interface ChildResult {
  code: number | null;
  signal: NodeJS.Signals | null;
  output: string;
  milliseconds: number;
}

/** Runs test/addon/children/<name> to its end. A child that hangs is killed after a minute and shows
 * as SIGKILL. */
export function runChild(name: string, args: string[] = [], nodeArgs: string[] = []) {
  const script = fileURLToPath(new URL(`./children/${name}`, import.meta.url));
  const start = performance.now();
  const child = spawn(process.execPath, [...nodeArgs, script, smollm2, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const add = (text: string) => {
    output += text;
  };
  child.stdout.setEncoding("utf8").on("data", add);
  child.stderr.setEncoding("utf8").on("data", add);
  const timer = setTimeout(() => child.kill("SIGKILL"), 60_000);
  return new Promise<ChildResult>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, output, milliseconds: performance.now() - start });
    });
  });
}
