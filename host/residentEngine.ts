/** The one engine of this host: opened for the settings of a run, kept for the next one, and lent to
 * one run at a time. */
import { ScholiaError } from "../contract/errors.ts";
import type { MemorySample } from "../contract/memory.ts";
import type { EngineSettings } from "../contract/routes.ts";
import type { RunSink } from "./channel.ts";
import { Engine, type MemoryReport } from "./engine/engine.ts";
import { probeModel } from "./engine/probeModel.ts";
import {
  checkProfileFits,
  engineProfile,
  findHeadProfile,
  type HeadProfile,
  loadHeadProfile,
  type ModelShape,
  ownProfilesDir,
  shippedProfilesDir,
  uniformProfile,
} from "./models/headProfile.ts";
import { modelFile } from "./models/modelFile.ts";
import { storeDir } from "./store/reads.ts";

/** What a read is named and found by, the same on every device (docs/kv_files.md). */
export const chunkTokens = 512;

/** Which blocks and budgets the heads have. */
export interface ActiveProfile {
  /** For people: a profile's name, or "uniform 32". */
  name: string;
  /** Null: uniform. */
  file: HeadProfile | null;
}

export interface ResidentEngine {
  engine: Engine;
  profile: ActiveProfile;
  /** Seconds that this run waited for the model; 0 when it was there. */
  loadSeconds: number;
}

type MemoryListener = (report: MemoryReport, doing: MemorySample["doing"]) => void;

const memoryEveryMs = 500;

type Reporting = Pick<RunSink, "progress" | "notice" | "signal">;

export class EngineRoom {
  readonly dataDir: string;
  private open: { key: string; engine: Engine; profileKey: string } | null = null;
  private inUse = false;
  private lastTurn: Promise<unknown> = Promise.resolve();
  private readonly onMemory: MemoryListener;

  /** @param onMemory hears what the engine holds while it is used, and when a run ends */
  constructor(dataDir: string, onMemory: MemoryListener) {
    this.dataDir = dataDir;
    this.onMemory = onMemory;
  }

  /** Runs the work with the engine of these settings, after the runs that asked before. */
  use<T>(
    settings: EngineSettings,
    sink: Reporting,
    work: (resident: ResidentEngine) => Promise<T>,
  ): Promise<T> {
    const turn = this.lastTurn.then(async () => {
      sink.signal.throwIfAborted();
      const resident = await this.prepare(settings, sink);
      this.inUse = true;
      const timer = setInterval(() => this.tellMemory(resident.engine), memoryEveryMs);
      try {
        return await work(resident);
      } finally {
        clearInterval(timer);
        this.inUse = false;
        await resident.engine.memory().then(
          (report) => this.onMemory(report, "idle"),
          () => {}, // it was closed
        );
      }
    });
    this.lastTurn = turn.catch(() => {});
    return turn.catch((error: unknown) => {
      throw isAbort(error) ? new ScholiaError("cancelled", "Stopped before it began.") : error;
    });
  }

  /** The open engine and what it holds, also while a run uses it. Null: none is open. */
  async memory(): Promise<{ engine: Engine; report: MemoryReport } | null> {
    if (this.open === null) return null;
    const { engine } = this.open;
    const report = this.inUse ? engine.memoryNow() : await engine.memory();
    return report === null ? null : { engine, report };
  }

  private tellMemory(engine: Engine) {
    const report = engine.memoryNow();
    if (report !== null) this.onMemory(report, engine.doing);
  }

  async close(): Promise<void> {
    const open = this.open;
    this.open = null;
    await open?.engine.close();
  }

  private async prepare(settings: EngineSettings, sink: Reporting): Promise<ResidentEngine> {
    const started = performance.now();
    const { path, reason } = await modelFile(settings.model, {
      fetch: true,
      onProgress: (progress) => sink.progress(progress),
      signal: sink.signal,
    });
    const key = JSON.stringify([path, settings.device, settings.threads]);
    let loadSeconds = 0;
    if (this.open?.key !== key) {
      await this.close();
      const engine = await this.load(path, settings, sink);
      this.open = { key, engine, profileKey: "uniform" };
      loadSeconds = (performance.now() - started) / 1000;
      if (reason !== null) sink.notice(`${reason}.`);
    }
    const { engine } = this.open;
    const profile = await chooseProfile(settings.profile, engine.model, this.dataDir, sink);
    const profileKey = profile.file === null ? "uniform" : JSON.stringify(profile.file);
    if (this.open.profileKey !== profileKey) {
      const { file } = profile;
      await engine.setProfile(file === null ? uniformProfile(engine.model) : engineProfile(file));
      this.open.profileKey = profileKey;
    }
    return { engine, profile, loadSeconds };
  }

  private async load(path: string, settings: EngineSettings, sink: Reporting): Promise<Engine> {
    const started = performance.now();
    const report = (fraction: number) => {
      const seconds = (performance.now() - started) / 1000;
      const secondsLeft = fraction > 0 ? (seconds / fraction) * (1 - fraction) : null;
      const done = 100 * fraction;
      sink.progress({
        phase: "model",
        done,
        total: 100,
        unit: "percent",
        seconds,
        rate: null,
        secondsLeft,
      });
    };
    report(0);
    const { fingerprint } = await probeModel(path);
    return Engine.open({
      modelPath: path,
      device: settings.device,
      threads: settings.threads,
      chunkTokens,
      storeDir: storeDir(this.dataDir, fingerprint),
      onProgress: report,
    });
  }
}

/** @param wanted a file, "uniform", or undefined for the model's own. */
export async function chooseProfile(
  wanted: string | undefined,
  model: ModelShape,
  dataDir: string,
  sink: { notice(message: string): void },
): Promise<ActiveProfile> {
  const uniform = { name: "uniform 32", file: null };
  if (wanted === "uniform") return uniform;
  if (wanted !== undefined) {
    const file = await loadHeadProfile(wanted);
    checkProfileFits(file, model);
    return { name: file.name, file };
  }
  const folders = [ownProfilesDir(dataDir), shippedProfilesDir()];
  const { profile, broken } = await findHeadProfile(model.fingerprint, folders);
  for (const message of broken) sink.notice(`${message} It is left out.`);
  if (profile === null) return uniform;
  checkProfileFits(profile, model);
  return { name: profile.name, file: profile };
}

function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}
