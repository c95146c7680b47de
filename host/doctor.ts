/** `scholia doctor`: what works on this machine and what does not, with the remedy. Every line is
 * tried, not guessed. */
import { existsSync } from "node:fs";
import { access, constants, mkdir, readdir, rm, statfs, writeFile } from "node:fs/promises";
import { arch, freemem, platform } from "node:os";
import { join } from "node:path";
import { ScholiaError } from "../contract/errors.ts";
import type { CheckLine, EngineSettings } from "../contract/routes.ts";
import { addonPath, libraryDir, loadAddon } from "./engine/addon.ts";
import { Engine } from "./engine/engine.ts";
import { cacheDir } from "./models/cache.ts";
import { catalog, isDownloaded, modelPath } from "./models/catalog.ts";
import { fitsMemory, thisMachine } from "./models/defaultModel.ts";
import { type ModelFile, modelFile } from "./models/modelFile.ts";
import { sha256File } from "./models/verify.ts";
import { chooseProfile } from "./residentEngine.ts";

const oldestNode = [22, 18];
const roomWanted = 2e9;

export async function checkMachine(
  settings: EngineSettings,
  dataDir: string,
): Promise<CheckLine[]> {
  const model = await chosenModel(settings);
  return [
    nodeLine(),
    platformLine(),
    addonLine(),
    await librariesLine(),
    memoryLine(model),
    await diskLine("Cache folder", cacheDir(), "SCHOLIA_CACHE"),
    await diskLine("Data folder", dataDir, "SCHOLIA_DATA or --data"),
    ...(await modelLines()),
    ...(await engineLines(model, settings, dataDir)),
    gpuLine(),
  ];
}

function nodeLine(): CheckLine {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const [needMajor = 0, needMinor = 0] = oldestNode;
  const isNew = major > needMajor || (major === needMajor && minor >= needMinor);
  const detail = `Node ${process.versions.node}`;
  if (isNew) return { name: "Node", state: "ok", detail };
  return {
    name: "Node",
    state: "fails",
    detail: `${detail}; ${oldestNode.join(".")} or later is needed`,
    remedy: "Start with npm start, which brings a Node of its own.",
  };
}

function platformLine(): CheckLine {
  const detail = `${platform()} on ${arch()}`;
  if (platform() === "linux" && arch() === "x64") return { name: "System", state: "ok", detail };
  return { name: "System", state: "note", detail: `${detail}: configured, but not tested` };
}

function addonLine(): CheckLine {
  const name = "Native engine";
  try {
    return { name, state: "ok", detail: `version ${loadAddon().version()}` };
  } catch (error) {
    const isBuilt = existsSync(addonPath);
    return {
      name,
      state: "fails",
      detail: isBuilt ? messageOf(error) : "it has not been built",
      remedy: "Run npm start: it builds the engine and says what it needs for that.",
    };
  }
}

async function librariesLine(): Promise<CheckLine> {
  const name = "Libraries";
  const files = await readdir(libraryDir()).catch(() => [] as string[]);
  const has = (stem: string) => files.some((file) => file.startsWith(stem));
  if (has("libllama") && has("libggml-base")) {
    const variants = files.flatMap((file) => /^libggml-cpu-(\w+)\./.exec(file)?.[1] ?? []);
    return { name, state: "ok", detail: `ggml and libllama, ${variants.length} CPU variants` };
  }
  return {
    name,
    state: "fails",
    detail: `ggml and libllama are not in ${libraryDir()}`,
    remedy: "Run npm start: it fetches them.",
  };
}

function memoryLine(model: ChosenModel): CheckLine {
  const machine = thisMachine();
  const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB`;
  const detail = `${gigabytes(machine.memoryBytes)}, ${gigabytes(freemem())} free, ${machine.cores} cores`;
  const entry = model.file?.entry;
  if (entry && !fitsMemory(entry, machine)) {
    return {
      name: "Memory",
      state: "fails",
      detail: `${detail}: too little for ${entry.name} with a long document`,
      remedy: "Take a smaller model: scholia models list.",
    };
  }
  return { name: "Memory", state: "ok", detail };
}

async function diskLine(name: string, folder: string, setting: string): Promise<CheckLine> {
  const trial = join(folder, `.trial-${process.pid}`);
  try {
    await mkdir(folder, { recursive: true });
    await access(folder, constants.W_OK);
    await writeFile(trial, "scholia");
    await rm(trial);
    const { bavail, bsize } = await statfs(folder);
    const free = bavail * bsize;
    const detail = `${folder}, ${(free / 1e9).toFixed(1)} GB free`;
    if (free >= roomWanted) return { name, state: "ok", detail };
    return {
      name,
      state: "note",
      detail: `${detail}: a model or a long read may not fit`,
      remedy: `Make room, or name a folder on a larger disk (${setting}).`,
    };
  } catch (error) {
    return {
      name,
      state: "fails",
      detail: `${folder} can't be written: ${messageOf(error)}`,
      remedy: `Name another folder (${setting}).`,
    };
  }
}

/** The models that are here, their files checked against the catalog. */
async function modelLines(): Promise<CheckLine[]> {
  const here = catalog.models.filter(({ id }) => isDownloaded(id));
  const lines = await Promise.all(
    here.map(async ({ id, sha256 }): Promise<CheckLine> => {
      const name = `Model`;
      if (sha256 === null) return { name, state: "ok", detail: `${id}, checked when it came` };
      const isWhole = (await sha256File(modelPath(id))) === sha256;
      if (isWhole) return { name, state: "ok", detail: `${id}, checksum right` };
      return {
        name,
        state: "fails",
        detail: `${id}: the file is not the one that was published`,
        remedy: `Delete ${modelPath(id)} and run scholia models get ${id}.`,
      };
    }),
  );
  if (lines.length > 0) return lines;
  return [
    {
      name: "Model",
      state: "note",
      detail: "no model of the catalog is here yet",
      remedy: "The first question fetches one; or scholia models get ID.",
    },
  ];
}

interface ChosenModel {
  file: ModelFile | null;
  error: unknown;
}

async function chosenModel({ model }: EngineSettings): Promise<ChosenModel> {
  try {
    return { file: await modelFile(model, { fetch: false }), error: null };
  } catch (error) {
    return { file: null, error };
  }
}

/** Opens the model that a question would use: engine, CPU variant and profile in one go. */
async function engineLines(
  { file, error }: ChosenModel,
  settings: EngineSettings,
  dataDir: string,
): Promise<CheckLine[]> {
  const name = "Engine";
  if (file === null) {
    // Without a model there is nothing to try; the line above says how to get one.
    const isAbsent = settings.model === undefined;
    return isAbsent
      ? []
      : [{ name, state: "fails", detail: messageOf(error), remedy: modelRemedy }];
  }
  const started = performance.now();
  let engine: Engine | null = null;
  try {
    const { device, threads } = settings;
    engine = await Engine.open({ modelPath: file.path, device, threads });
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    const detail = `${engine.model.name} opened in ${seconds} s on ${engine.device}`;
    return [{ name, state: "ok", detail }, await profileLine(engine, settings, dataDir)];
  } catch (failure) {
    return [{ name, state: "fails", detail: messageOf(failure), remedy: remedyOf(failure) }];
  } finally {
    await engine?.close();
  }
}

const modelRemedy = "Take another model: scholia models list, or a GGUF file.";

function remedyOf(error: unknown): string {
  const code = error instanceof ScholiaError ? error.code : "internal";
  if (code === "device_unavailable") return "Leave --device away, or give --device cpu.";
  if (code === "out_of_memory") return "Close other programs, or take a smaller model.";
  if (code.startsWith("model_")) return modelRemedy;
  return "Run npm start, which sets up what is missing.";
}

async function profileLine(
  engine: Engine,
  settings: EngineSettings,
  dataDir: string,
): Promise<CheckLine> {
  const name = "Head profile";
  const broken: string[] = [];
  try {
    const sink = { notice: (message: string) => void broken.push(message) };
    const profile = await chooseProfile(settings.profile, engine.model, dataDir, sink);
    if (broken.length > 0) {
      return {
        name,
        state: "fails",
        detail: broken.join(" "),
        remedy: "Delete or replace the file.",
      };
    }
    if (profile.file !== null) return { name, state: "ok", detail: profile.name };
    return {
      name,
      state: "note",
      detail: "none for this model: every head reads blocks of 32 with the same budget",
      remedy: "scholia calibrate measures the model's heads.",
    };
  } catch (error) {
    return {
      name,
      state: "fails",
      detail: messageOf(error),
      remedy: "Leave --profile away, or calibrate this model.",
    };
  }
}

/** What the engine itself says of the GPU: it was asked, not guessed from the driver's files. */
function gpuLine(): CheckLine {
  const name = "CUDA";
  try {
    const { isUsable, detail } = loadAddon().cudaSupport();
    if (isUsable) return { name, state: "ok", detail: `${detail} can be used` };
    const line: CheckLine = { name, state: "note", detail: `${detail}: the processor computes` };
    if (!existsSync("/proc/driver/nvidia/version")) return line;
    return {
      ...line,
      remedy:
        "Install the CUDA toolkit, or set SCHOLIA_CUDA=wheels, and run npm start: it builds the engine with CUDA.",
    };
  } catch {
    return { name, state: "note", detail: "unknown: the native engine can't be asked" };
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
