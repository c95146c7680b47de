/** The engine as the host uses it: promises, {@link ScholiaError}s, AbortSignals and streams over
 * the addon (addon.ts, which describes the values).
 *
 * Every method may reject with `invalid_argument`, and with `cancelled` when its signal was aborted
 * or the engine closed before it ended. Calls run one after the other: during a prefill even a
 * `tokenize` waits. */
import type { BenchRow } from "../../contract/bench.ts";
import { type ErrorCode, engineErrorCodes, ScholiaError } from "../../contract/errors.ts";
import type { DigestBits } from "../../contract/heads.ts";
import type { MemorySample } from "../../contract/memory.ts";
import {
  type BenchOptions,
  type BenchProgress,
  type CopiedTokens,
  type DecodeOptions,
  type EngineConfig,
  type EngineInfo,
  type GeneratedToken,
  type GenerateOptions,
  type GenerateReport,
  type HeadErrors,
  libraryDir,
  loadAddon,
  type MeasureOptions,
  type MemoryReport,
  type ModelInfo,
  type NativeAddon,
  type NativeEngine,
  type NativeHeadProfile,
  type NativeJob,
  type PrefillOptions,
  type PrefillProgress,
  type StepTiming,
  type TailComparison,
  type TailProgress,
  type TimingOptions,
  type TraceDetail,
  type TraceOf,
} from "./addon.ts";
import { type LogLine, LogLines } from "./engineLog.ts";
import { probeModel } from "./probeModel.ts";

export type * from "./addon.ts";
export type { LogLine } from "./engineLog.ts";

/** A call that can be stopped. */
export interface Stoppable {
  signal?: AbortSignal | undefined;
}

export interface OpenOptions extends EngineConfig {
  onProgress?: ((fraction: number) => void) | undefined;
}

export interface PrefillCall extends PrefillOptions, Stoppable {
  onProgress?: ((progress: PrefillProgress) => void) | undefined;
}

export interface GenerateCall<Detail extends TraceDetail>
  extends GenerateOptions<Detail>,
    Stoppable {
  onToken?: ((token: GeneratedToken<Detail>) => void) | undefined;
}

export interface MeasureCall
  extends Omit<MeasureOptions, "blockTokens" | "budgetTokens">,
    Stoppable {
  blockTokens: ArrayLike<number>;
  budgetTokens: ArrayLike<number>;
  onProgress?: ((progress: PrefillProgress) => void) | undefined;
}

export interface BenchCall extends Omit<BenchOptions, "depths">, Stoppable {
  depths: ArrayLike<number>;
  onProgress?: ((progress: BenchProgress) => void) | undefined;
}

/** A head profile with any arrays of numbers. */
export interface HeadProfileInput extends Pick<NativeHeadProfile, "modelFingerprint" | "digest"> {
  /** Default 4. */
  digestBits?: DigestBits;
  blockTokens: ArrayLike<number>;
  budgetShare: ArrayLike<number>;
}

export interface RetrievalCall extends CopiedTokens, Stoppable {
  onProgress?: ((progress: PrefillProgress) => void) | undefined;
}

/** A head profile and a budget to read with. */
export interface TailModeInput {
  profile: HeadProfileInput;
  budgetTokens: number;
  /** All other heads read everything. */
  onlyHead?: number;
}

export interface TailCall extends Stoppable {
  onProgress?: ((progress: TailProgress) => void) | undefined;
}

/** A running answer: its tokens as they come, then its report. Leaving the loop early stops it. */
export interface TokenStream<Detail extends TraceDetail>
  extends AsyncIterable<GeneratedToken<Detail>> {
  readonly report: Promise<GenerateReport>;
}

export class Engine {
  readonly model: ModelInfo;
  /** The device and why. */
  readonly device: string;
  /** -1 when the model has none. */
  readonly bosToken: number;
  private readonly native: NativeEngine;
  /** The calls that are worth naming, in the order in which they run. */
  private readonly running: ("prefill" | "decode")[] = [];

  private constructor(native: NativeEngine, info: EngineInfo) {
    this.native = native;
    this.model = info.model;
    this.device = info.device;
    this.bosToken = info.bosToken;
  }

  /** Opens a model, after a first look at its file from a process that may die of it.
   * @throws ScholiaError `model_not_found`, `model_broken`, `model_unsupported`,
   *   `device_unavailable`, `out_of_memory` */
  static async open(options: OpenOptions): Promise<Engine> {
    const { onProgress, ...config } = options;
    await probeModel(config.modelPath);
    const native = new (initialisedAddon().Engine)();
    try {
      const report = onProgress && (({ fraction }: { fraction: number }) => onProgress(fraction));
      return new Engine(native, await run(native, () => native.open(config, report)));
    } catch (error) {
      await native.close();
      throw error;
    }
  }

  /** Stops what runs, rejects what waits with `cancelled`, frees the model. May be called again. */
  close(): Promise<void> {
    return this.native.close();
  }

  memory(): Promise<MemoryReport> {
    return this.run((native) => native.memory());
  }

  /** The same at once, while something runs: what the engine last said of it, at most a step ago. */
  memoryNow(): MemoryReport | null {
    return this.native.memoryNow();
  }

  /** What is running. */
  get doing(): MemorySample["doing"] {
    return this.running[0] ?? "idle";
  }

  profile(): Promise<NativeHeadProfile> {
    return this.run((native) => native.profile());
  }

  /** @throws ScholiaError `profile_mismatch`, `invalid_argument`, `device_unavailable` for a digest that
   *   the device does not have */
  setProfile(profile: HeadProfileInput): Promise<void> {
    return this.run((native) => native.setProfile(nativeProfile(profile)));
  }

  /** @param parseSpecial the text of a special token becomes that token: for what the program
   *   writes, never for documents and questions. */
  tokenize(text: string, parseSpecial: boolean): Promise<Int32Array> {
    return this.run((native) => native.tokenize(text, parseSpecial));
  }

  detokenize(tokens: Int32Array): Promise<string> {
    return this.run((native) => native.detokenize(tokens));
  }

  isEndOfTurn(token: number): Promise<boolean> {
    return this.run((native) => native.isEndOfTurn(token));
  }

  createSequence(): Promise<number> {
    return this.run((native) => native.createSequence());
  }

  fork(sequence: number): Promise<number> {
    return this.run((native) => native.fork(sequence));
  }

  /** @returns the length kept: a prompt can be cut only at chunk boundaries and segment ends. */
  truncate(sequence: number, tokens: number): Promise<number> {
    return this.run((native) => native.truncate(sequence, tokens));
  }

  release(sequence: number): Promise<void> {
    return this.run((native) => native.release(sequence));
  }

  sequenceTokens(sequence: number): Promise<Int32Array> {
    return this.run((native) => native.sequenceTokens(sequence));
  }

  /** Names the read, hexadecimal. */
  sequenceKey(sequence: number): Promise<string> {
    return this.run((native) => native.sequenceKey(sequence));
  }

  /** Files that hold the sequence's saved KV. */
  storedRuns(sequence: number): Promise<string[]> {
    return this.run((native) => native.storedRuns(sequence));
  }

  /** How many of these tokens, as the first segment of a sequence, need no prefill. */
  cachedTokens(tokens: Int32Array): Promise<number> {
    return this.run((native) => native.cachedTokens(tokens));
  }

  /** Appends one prompt segment. Stopped by its signal, whole steps stay findable: prefill the same
   * segments on a new sequence to continue.
   * @throws ScholiaError `cancelled`, `context_exceeded`, `out_of_memory` */
  prefill(
    sequence: number,
    tokens: Int32Array,
    { signal, onProgress, ...options }: PrefillCall = {},
  ): Promise<PrefillProgress> {
    const prefill = (native: NativeEngine) => native.prefill(sequence, tokens, options, onProgress);
    return this.runAs("prefill", () => this.run(prefill, signal));
  }

  /** Appends one token. */
  decode<Detail extends TraceDetail = "none">(
    sequence: number,
    token: number,
    options: DecodeOptions<Detail> = {},
  ): Promise<TraceOf[Detail]> {
    return this.run((native) => native.decode(sequence, token, options));
  }

  /** [vocabulary] of the last prefill or decode. */
  logits(): Promise<Float32Array> {
    return this.run((native) => native.logits());
  }

  /** Samples from the last logits and decodes until the turn ends. Stopped by its signal while it
   * runs, it resolves with what was generated and `stop: "cancelled"`. */
  generate<Detail extends TraceDetail = "none">(
    sequence: number,
    { signal, onToken, ...options }: GenerateCall<Detail> = {},
  ): Promise<GenerateReport> {
    const generate = (native: NativeEngine) => native.generate<Detail>(sequence, options, onToken);
    return this.runAs("decode", () => this.run(generate, signal));
  }

  /** {@link generate} as a stream. */
  stream<Detail extends TraceDetail = "none">(
    sequence: number,
    { signal, ...options }: Omit<GenerateCall<Detail>, "onToken"> = {},
  ): TokenStream<Detail> {
    const left = new AbortController();
    const signals = signal ? [signal, left.signal] : [left.signal];
    const tokens = new AsyncQueue<GeneratedToken<Detail>>();
    const report = this.generate<Detail>(sequence, {
      ...options,
      signal: AbortSignal.any(signals),
      onToken: (token) => tokens.push(token),
    } as GenerateCall<Detail>);
    report.then(
      () => tokens.end(),
      (error: unknown) => tokens.end(error),
    );
    return { report, [Symbol.asyncIterator]: () => tokens.drain(() => left.abort()) };
  }

  /** Where the time of a decode step goes, on a copy of the sequence. */
  timeSteps(sequence: number, options: TimingOptions = {}): Promise<StepTiming> {
    return this.run((native) => native.timeSteps(sequence, options));
  }

  /** [tokens][vocabulary]. For tests: it is large and can't be stopped. */
  prefillLogits(sequence: number, tokens: Int32Array): Promise<Float32Array> {
    return this.run((native) => native.prefillLogits(sequence, tokens));
  }

  /** Prefills tokens on a fresh sequence and measures what each candidate would cost each head. */
  measureHeads(
    tokens: Int32Array,
    { signal, onProgress, ...options }: MeasureCall,
  ): Promise<HeadErrors> {
    const request = {
      ...options,
      blockTokens: Int32Array.from(options.blockTokens),
      budgetTokens: Int32Array.from(options.budgetTokens),
    };
    return this.run((native) => native.measureHeads(tokens, request, onProgress), signal);
  }

  /** Prefills tokens on a fresh sequence and measures how often the heaviest token of each query head
   * is the one that is copied: [layers * queryHeads]. */
  measureRetrieval(
    tokens: Int32Array,
    { signal, onProgress, ...copies }: RetrievalCall,
  ): Promise<Float64Array> {
    return this.run((native) => native.measureRetrieval(tokens, copies, onProgress), signal);
  }

  /** Reads the tail token by token, densely and in each mode, each on a fork of its own: how far the
   * modes' next tokens are from dense reading's. The engine keeps its profile.
   * @throws ScholiaError as {@link setProfile}; `cancelled`, at the next token; `context_exceeded`,
   *   `out_of_memory` */
  compareTail(
    sequence: number,
    tail: Int32Array,
    modes: TailModeInput[],
    { signal, onProgress }: TailCall = {},
  ): Promise<TailComparison[]> {
    const native = modes.map(({ profile, budgetTokens, onlyHead }) => ({
      profile: nativeProfile(profile),
      budgetTokens,
      ...(onlyHead === undefined ? {} : { onlyHead }),
    }));
    return this.run((engine) => engine.compareTail(sequence, tail, native, onProgress), signal);
  }

  /** @param text tokens to read: at least the largest depth and the decoded tokens. */
  bench(text: Int32Array, { signal, onProgress, ...options }: BenchCall): Promise<BenchRow[]> {
    const request = { ...options, depths: Int32Array.from(options.depths) };
    return this.run((native) => native.bench(text, request, onProgress), signal);
  }

  private async runAs<T>(doing: "prefill" | "decode", work: () => Promise<T>): Promise<T> {
    this.running.push(doing);
    try {
      return await work();
    } finally {
      this.running.shift();
    }
  }

  private run<T>(start: (native: NativeEngine) => NativeJob<T>, signal?: AbortSignal): Promise<T> {
    return run(this.native, () => start(this.native), signal);
  }
}

const nativeProfile = (profile: HeadProfileInput): NativeHeadProfile => ({
  ...profile,
  digestBits: profile.digestBits ?? 4,
  blockTokens: Uint16Array.from(profile.blockTokens),
  budgetShare: Float32Array.from(profile.budgetShare),
});

/** Queues a job, stops it with the signal, and turns its error into a ScholiaError. */
async function run<T>(
  native: NativeEngine,
  start: () => NativeJob<T>,
  signal?: AbortSignal,
): Promise<T> {
  if (signal?.aborted) throw new ScholiaError("cancelled", "Stopped before it began.");
  try {
    const { id, promise } = start();
    const cancel = () => native.cancel(id);
    signal?.addEventListener("abort", cancel);
    try {
      return await promise;
    } finally {
      signal?.removeEventListener("abort", cancel);
    }
  } catch (error) {
    throw toScholiaError(error);
  }
}

/** Errors of the engine get the class; what a callback threw stays as it is. */
function toScholiaError(error: unknown): unknown {
  const code = error instanceof Error ? (error as { code?: unknown }).code : undefined;
  if (!(engineErrorCodes as readonly unknown[]).includes(code)) return error;
  const scholiaError = new ScholiaError(code as ErrorCode, (error as Error).message);
  scholiaError.cause = error;
  return scholiaError;
}

/** Values that are pushed at any time and read in a loop. */
class AsyncQueue<T> {
  private readonly values: T[] = [];
  private ended: { error: unknown } | null = null;
  private wake: () => void = () => {};

  push(value: T): void {
    this.values.push(value);
    this.wake();
  }

  end(error?: unknown): void {
    this.ended = { error };
    this.wake();
  }

  /** @param onLeave called when the loop is over, early or not. */
  async *drain(onLeave: () => void): AsyncGenerator<T> {
    try {
      while (true) {
        const value = this.values.shift();
        if (value !== undefined) yield value;
        else if (this.ended === null) await this.change();
        else if (this.ended.error !== undefined) throw this.ended.error;
        else return;
      }
    } finally {
      onLeave();
    }
  }

  private change(): Promise<void> {
    return new Promise((resolve) => {
      this.wake = resolve;
    });
  }
}

let logListener: (line: LogLine) => void = (line) => {
  if (line.level === "warning" || line.level === "error") process.stderr.write(`${line.text}\n`);
};

/** Who hears the lines that libllama and ggml log. Without this call, warnings and errors go to
 * standard error. */
export function onEngineLog(listener: (line: LogLine) => void): void {
  logListener = listener;
}

let addon: NativeAddon | null = null;

function initialisedAddon(): NativeAddon {
  if (addon === null) {
    const loaded = loadAddon();
    const lines = new LogLines((line) => logListener(line));
    loaded.initialise(libraryDir(), (level, text) => lines.add(level, text));
    addon = loaded;
  }
  return addon;
}
