/** A first look at a GGUF from a process that may die: libllama asserts on strange files, and a
 * model's file is untrusted. What was found is kept in the cache as long as the file does not
 * change. */
import { fork } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, readFile, realpath, rename, stat, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { type ErrorValue, ScholiaError } from "../../contract/errors.ts";
import { cacheDir, nativeVersion } from "../models/cache.ts";
import { processEnvironment, processFile } from "../places.ts";
import { addonPath, type ModelInfo } from "./addon.ts";

export type ProbeReport = { model: ModelInfo } | { error: ErrorValue };

export interface ProbeOptions {
  /** A header of many gigabytes' model is read in well under a second; a disk may be slow. Default
   * 60,000. */
  timeoutMs?: number;
}

/** Lines of the child's standard error that a message may quote. */
const lastLinesKept = 200;

/** What can be said of a model without loading its weights.
 * @throws ScholiaError `model_not_found`, `model_broken` (also when the reader died of the file or
 *   did not end in time), `model_unsupported`, `cancelled` */
export async function probeModel(path: string, options: ProbeOptions = {}): Promise<ModelInfo> {
  const identity = await identify(path);
  const entry = join(cacheDir(), "probes", `${sha256(identity)}.json`);
  let report = await readEntry(entry, identity);
  if (report === null) {
    const fresh = await probe(path, options.timeoutMs ?? 60_000);
    report = fresh.report;
    if (fresh.lasting) await writeEntry(entry, identity, report);
  }
  if ("error" in report) throw new ScholiaError(report.error.code, report.error.message);
  return { ...report.model, path };
}

/** Everything that the answer depends on: the file as it is now, and the reader. */
async function identify(path: string): Promise<string> {
  try {
    const file = await stat(path);
    if (!file.isFile()) throw new ScholiaError("model_not_found", `${path} is not a file.`);
    const reader = await stat(addonPath).catch(() => ({ mtimeMs: 0 }));
    const parts = [await realpath(path), file.size, file.mtimeMs, nativeVersion, reader.mtimeMs];
    return JSON.stringify(parts);
  } catch (error) {
    if (error instanceof ScholiaError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new ScholiaError("model_not_found", `The model ${path} can't be read: ${reason}.`);
  }
}

interface Probe {
  report: ProbeReport;
  /** The same file gives the same report: it speaks of the file, and not of the moment. */
  lasting: boolean;
}

async function probe(path: string, timeoutMs: number): Promise<Probe> {
  const child = await runChild(path, timeoutMs);
  if (child.report !== null) {
    const { report } = child;
    const ofFile = "model" in report || /^model_(broken|unsupported)$/.test(report.error.code);
    return { report, lasting: ofFile };
  }
  const name = basename(path);
  if (child.timedOut) {
    return broken(`The header of ${name} was not read within ${timeoutMs / 1000} s.`, false);
  }
  if (child.signal !== null && askedToEnd.includes(child.signal)) {
    const message = `Stopped while the header of ${name} was read (${child.signal}).`;
    return { report: { error: { code: "cancelled", message } }, lasting: false };
  }
  const how = `${child.signal ?? `code ${child.code}`}${lastWords(child.lastLines)}`;
  // SIGKILL comes from a system short of memory.
  const lasting = child.signal !== null && child.signal !== "SIGKILL";
  return broken(`${name} can't be read: its header ended the reader (${how}).`, lasting);
}

/** From whoever ends the program, as Ctrl+C does to all its processes: they say nothing of the file. */
const askedToEnd: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP"];

const broken = (message: string, lasting: boolean): Probe => ({
  report: { error: { code: "model_broken", message } },
  lasting,
});

interface ChildEnd {
  /** Null when it died before it could say anything. */
  report: ProbeReport | null;
  code: number | null;
  signal: NodeJS.Signals | null;
  timedOut: boolean;
  /** Of its standard error. */
  lastLines: string[];
}

function runChild(path: string, timeoutMs: number): Promise<ChildEnd> {
  const entry = processFile("host/engine/probeModelChild.ts");
  const child = fork(entry, [path], {
    env: processEnvironment(),
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    execArgv: [],
  });
  const end: ChildEnd = { report: null, code: null, signal: null, timedOut: false, lastLines: [] };
  // An unread pipe fills and blocks the child in the middle of a log line.
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    end.lastLines.push(...text.split("\n").filter((line) => line.trim() !== ""));
    end.lastLines = end.lastLines.slice(-lastLinesKept);
  });
  child.on("message", (message) => {
    end.report = message as ProbeReport;
  });
  const timer = setTimeout(() => {
    end.timedOut = true;
    child.kill("SIGKILL");
  }, timeoutMs);
  return new Promise((resolve, reject) => {
    child.once("error", (error) => {
      clearTimeout(timer);
      const message = `No process could be started to open the model: ${error.message}.`;
      reject(new ScholiaError("internal", message));
    });
    child.once("close", (code, signal) => {
      clearTimeout(timer);
      resolve({ ...end, code, signal });
    });
  });
}

/** An assertion's own line, else the last one. */
function lastWords(lines: string[]): string {
  const line = lines.findLast((text) => /assert|error|terminate/i.test(text)) ?? lines.at(-1);
  return line === undefined ? "" : `: ${line.trim().slice(0, 200)}`;
}

async function readEntry(entry: string, identity: string): Promise<ProbeReport | null> {
  try {
    const kept: unknown = JSON.parse(await readFile(entry, "utf8"));
    const { identity: of, report } = kept as { identity?: string; report?: ProbeReport };
    return of === identity && report !== undefined ? report : null;
  } catch {
    return null; // none yet, or a damaged one: it is made again
  }
}

/** Without room on the disk there is no entry, and the next probe takes its half second again. */
async function writeEntry(entry: string, identity: string, report: ProbeReport): Promise<void> {
  const unfinished = `${entry}.${process.pid}`;
  try {
    await mkdir(join(cacheDir(), "probes"), { recursive: true });
    await writeFile(unfinished, JSON.stringify({ identity, report }));
    await rename(unfinished, entry);
  } catch {}
}

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
