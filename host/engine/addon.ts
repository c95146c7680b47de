/** The native addon as it is: its types, written by hand and checked against it in
 * test/addon, and its loading. Everybody else uses engine.ts.
 *
 * Shapes are given in brackets. A *head* is a (layer, KV head) pair, layer-major: head h =
 * layer * kvHeads + kvHead. Arrays that come back are copies and belong to the caller.
 *
 * Methods read their arguments at once and throw an `Error` with `code: "invalid_argument"` when one
 * is wrong or the engine is closed. Everything else happens on the engine's own thread, one job
 * after the other, and is reported by the job's promise, which rejects with an `Error` whose `code`
 * is one of contract/errors.ts's `engineErrorCodes`. What a callback throws ends its job and rejects
 * its promise. */
import { createRequire } from "node:module";
import { join } from "node:path";
import type { Mode } from "../../contract/answer.ts";
import type { BenchRow } from "../../contract/bench.ts";
import { type ErrorValue, ScholiaError } from "../../contract/errors.ts";
import type { DigestBits, DigestKind } from "../../contract/heads.ts";
import type { StageTime } from "../../contract/timing.ts";
import { nativeDir } from "../models/cache.ts";
import { isBundled, unpackedFile } from "../places.ts";

/** Work that was queued. `id` is for {@link NativeEngine.cancel}. */
export interface NativeJob<T> {
  readonly id: number;
  readonly promise: Promise<T>;
}

export type Device = "auto" | "cpu" | "cuda";

export interface EngineConfig {
  modelPath: string;
  /** Default `auto`. */
  device?: Device | undefined;
  /** Default 0: as many as the machine has cores. */
  threads?: number | undefined;
  /** Prompts are named, cut, saved and found in chunks of so many tokens, a multiple of 16: part of a
   * read's identity. Default 512. */
  chunkTokens?: number | undefined;
  /** Prompt tokens that are computed at once, a multiple of `chunkTokens`. Default 0: what suits the
   * device. Not part of a read's identity. */
  prefillStepTokens?: number | undefined;
  /** What KV may take. Default 0: enough for the model's context, within half of the free memory. */
  kvPoolBytes?: number | undefined;
  /** Where reads are saved; without it they are not. */
  storeDir?: string | undefined;
}

export interface ModelInfo {
  path: string;
  /** 64 hexadecimal digits that identify header and weights, whatever the file's name. */
  fingerprint: string;
  name: string;
  /** `llama`, `qwen2` or `qwen3`. */
  architecture: string;
  /** Of most bytes of the file, e.g. `q5_0`. */
  quantisation: string;
  /** Jinja source; empty when the file has none. */
  chatTemplate: string;
  bosPiece: string;
  eosPiece: string;
  addsBos: boolean;
  layers: number;
  queryHeads: number;
  kvHeads: number;
  headDim: number;
  /** Tokens the model knows. */
  vocabulary: number;
  /** The longest context the model was trained for, in tokens. */
  contextTokens: number;
  fileBytes: number;
  parameters: number;
}

export interface EngineInfo {
  model: ModelInfo;
  /** The device and why, e.g. `cpu (AMD EPYC, 2 threads, avx512)`. */
  device: string;
  /** -1 when the model has none. */
  bosToken: number;
}

export interface MemoryReport {
  /** Weights as held, after conversion. */
  weightsBytes: number;
  /** KV pages in use; shared ones count once. */
  kvBytes: number;
  /** KV pages of past reads: in no use, but filled, and found again. */
  kvKeptBytes: number;
  /** What KV may grow to. */
  kvPoolBytes: number;
  digestBytes: number;
  /** Compute buffers. */
  workspaceBytes: number;
  /** Of the machine or the device. */
  freeBytes: number;
}

/** Block size and share of the token budget for each head. */
export interface NativeHeadProfile {
  /** Of the model it was made for; empty for the uniform profile, which fits all. */
  modelFingerprint: string;
  digest: DigestKind;
  /** Of a number of a digest: other digests than INT4 of the first three kinds are there to be compared,
   * on the processor only. */
  digestBits: DigestBits;
  /** [heads] 16, 32, 64 or 128. */
  blockTokens: Uint16Array;
  /** [heads] mean 1. */
  budgetShare: Float32Array;
}

export interface LoadProgress {
  /** From 0 to 1. */
  fraction: number;
}

export interface PrefillOptions {
  /** Save the KV of whole runs as the prefill goes. Default false. */
  persist?: boolean | undefined;
  /** The logits of the last token are needed, so its chunk is computed even if cached. Default
   * true. */
  wantLogits?: boolean | undefined;
}

export interface PrefillProgress {
  /** Of this call, cached ones included. */
  doneTokens: number;
  totalTokens: number;
  /** Found in memory. */
  memoryTokens: number;
  /** Found on disk, checksums verified. */
  diskTokens: number;
  /** Found damaged on disk: that file is gone, and they are computed again. */
  brokenTokens: number;
  /** Length of the sequence so far. */
  depthTokens: number;
  /** Spent computing; cached tokens are not counted. */
  seconds: number;
  /** Of the last step; 0 before the first. */
  tokensPerSecond: number;
  /** Why the read could not be saved, if so: the prefill goes on without. */
  storeError: ErrorValue | null;
}

/** How much of a step's trace crosses to JS: nothing, what each head read, or also the attention
 * mass of every block read, which costs time to measure. */
export type TraceDetail = "none" | "counts" | "mass";

/** What one decode step read. All arrays lie in one ArrayBuffer. */
export interface StepTrace {
  /** Context of the step, the new token included. */
  depthTokens: number;
  /** Keys and values read, all heads. */
  kvBytes: number;
  /** Digests read, all heads. */
  digestBytes: number;
  /** What dense decode would have read. */
  denseBytes: number;
  /** [heads] block size. */
  blockTokens: Uint16Array;
  /** [heads] kv_blocks read, a last unfinished one included. */
  blocks: Uint32Array;
  /** [heads] */
  tokensRead: Uint32Array;
  /** [heads] of the attention that dense decode would give to the whole context, the share that falls
   * on what was read; null where it was not measured. */
  massKept: Float32Array | null;
}

export interface MassTrace extends StepTrace {
  /** [heads + 1] head h owns [blockOffset[h], blockOffset[h + 1]) of the arrays below. */
  blockOffset: Uint32Array;
  /** kv_block index within the head's own block size. */
  blockIndex: Uint32Array;
  /** Share of attention, mean over the group's query heads. */
  mass: Float32Array;
}

export interface TraceOf {
  none: null;
  counts: StepTrace;
  mass: MassTrace;
}

export interface DecodeOptions<Detail extends TraceDetail = TraceDetail> {
  /** Default `ab-sparse`. */
  mode?: Mode | undefined;
  /** Average of tokens read per KV head, forced ones included. Default 2,048. */
  budgetTokens?: number | undefined;
  /** Default `none`. */
  trace?: Detail | undefined;
}

export interface GenerateOptions<Detail extends TraceDetail = TraceDetail>
  extends DecodeOptions<Detail> {
  /** Default 512. */
  maxTokens?: number | undefined;
  /** Default 0: the likeliest token. */
  temperature?: number | undefined;
  /** Default 40; 0: off. */
  topK?: number | undefined;
  /** Default 0.95. */
  topP?: number | undefined;
  /** Default 0.05. */
  minP?: number | undefined;
  /** 32 bits. Default 0. */
  seed?: number | undefined;
  /** The mass kept is measured at the first step and at every so many-th after it, each time at the
   * price of a dense step. Default 0: never. */
  keptEverySteps?: number | undefined;
}

export interface GeneratedToken<Detail extends TraceDetail = TraceDetail> {
  token: number;
  /** Text that this token completes; may be empty inside a character of several tokens. */
  text: string;
  /** Of the step that produced its logits; null for the first, which prefill produced. */
  trace: TraceOf[Detail] | null;
}

export type StopReason = "end_of_turn" | "max_tokens" | "context_full" | "cancelled";

export interface GenerateReport {
  tokens: Int32Array;
  text: string;
  stop: StopReason;
  /** Decode steps only. */
  seconds: number;
  steps: number;
  /** Bytes summed over the steps. */
  kvBytes: number;
  digestBytes: number;
  denseBytes: number;
}

export interface MeasureOptions {
  /** Queries are taken from this many last positions. */
  tailTokens: number;
  queries: number;
  /** Candidates. */
  blockTokens: Int32Array;
  /** Candidates. */
  budgetTokens: Int32Array;
}

/** How well each pair of block size and budget serves each head. */
export interface HeadErrors {
  /** Candidates. */
  blockTokens: Int32Array;
  /** Candidates. */
  budgetTokens: Int32Array;
  /** [heads][block candidates][budget candidates] |o_dense − o_sparse| / |o_dense|, mean over the
   * query positions. */
  outputError: Float64Array;
  /** The same shape: attention mass of the selection over that of the best tokens of its size. */
  recall: Float64Array;
  queries: number;
}

/** Tokens that a text copies: the one after `positions[i]` is that at `sources[i]`. */
export interface CopiedTokens {
  /** Ascending. */
  positions: Int32Array;
  /** Each at most its position. */
  sources: Int32Array;
}

/** A way of reading AB-Sparse that is compared with dense reading. */
export interface TailMode {
  profile: NativeHeadProfile;
  budgetTokens: number;
  /** All other heads read everything. */
  onlyHead?: number;
}

/** A tail of tokens, read one by one in one mode, beside the same tail read densely. */
export interface TailComparison {
  /** [tokens] KL(dense || mode) of the next token, nats. */
  kl: Float64Array;
  /** [tokens] 1: both hold the same token for the likeliest. */
  sameTop: Uint8Array;
  /** [tokens - 1] what the tail's own next token costs more, nats. */
  lossIncrease: Float64Array;
  /** kv_blocks read, all heads and tokens. */
  blocks: number;
  /** Bytes summed over the tokens. */
  kvBytes: number;
  digestBytes: number;
  denseBytes: number;
}

export interface TailProgress {
  /** Compared in all modes. */
  doneTokens: number;
}

export interface TimingOptions {
  /** Default `ab-sparse`. */
  mode?: Mode | undefined;
  /** Default 2,048. */
  budgetTokens?: number | undefined;
  /** Default 8; their median is reported. */
  steps?: number | undefined;
}

/** Where the time of a decode step goes. */
export interface StepTiming {
  /** Tokens in the context. */
  depthTokens: number;
  steps: number;
  /** In the order in which they run. */
  stages: StageTime[];
  /** What the memory gives at most, measured; null: unknown. */
  bytesPerSecond: number | null;
}

export interface BenchOptions {
  /** Tokens in the context. */
  depths: Int32Array;
  modes: Mode[];
  /** Of AB-Sparse. Default 1,024. */
  budgetTokens?: number | undefined;
  /** Default 5; the median is reported. */
  repetitions?: number | undefined;
  /** Per repetition. Default 32. */
  decodeTokens?: number | undefined;
  /** Measure libllama too, interleaved. Default false. */
  peer?: boolean | undefined;
  prefill?: boolean | undefined;
  decode?: boolean | undefined;
}

export interface BenchProgress {
  /** What was just measured. */
  message: string;
}

/** One engine with a thread of its own. Sequences are numbers that `createSequence` and `fork` give;
 * an unknown one is `invalid_argument`. */
export interface NativeEngine {
  /** Loads a model; once per engine, though a failed open may be tried again.
   * Errors: `model_not_found`, `model_broken`, `model_unsupported`, `device_unavailable`,
   * `out_of_memory`. Loading can't be cancelled once it has begun. */
  open(config: EngineConfig, onProgress?: (progress: LoadProgress) => void): NativeJob<EngineInfo>;
  /** Cancels the running job, rejects the queued ones with `cancelled`, frees the model. May be
   * called again. */
  close(): Promise<void>;
  /** A queued job rejects with `cancelled` and never runs; a running prefill, generation or
   * measurement stops within one layer.
   * @returns whether such a job was left. */
  cancel(id: number): boolean;

  memory(): NativeJob<MemoryReport>;
  /** At once, while a job runs: what the engine last said that it holds, some ten times a second. Null
   * without an open model. */
  memoryNow(): MemoryReport | null;
  profile(): NativeJob<NativeHeadProfile>;
  /** Errors: `profile_mismatch`, `invalid_argument`. */
  setProfile(profile: NativeHeadProfile): NativeJob<void>;

  /** @param parseSpecial the text of a special token becomes that token; without it the same
   * characters are plain text. */
  tokenize(text: string, parseSpecial: boolean): NativeJob<Int32Array>;
  detokenize(tokens: Int32Array): NativeJob<string>;
  isEndOfTurn(token: number): NativeJob<boolean>;

  createSequence(): NativeJob<number>;
  fork(sequence: number): NativeJob<number>;
  /** Resolves to the length kept: a prompt can be cut only at chunk boundaries and segment ends. */
  truncate(sequence: number, tokens: number): NativeJob<number>;
  release(sequence: number): NativeJob<void>;
  sequenceTokens(sequence: number): NativeJob<Int32Array>;
  /** Names the read: the hash chain's key at the end of the sequence, hexadecimal. */
  sequenceKey(sequence: number): NativeJob<string>;
  /** Files that hold the sequence's saved KV. */
  storedRuns(sequence: number): NativeJob<string[]>;
  /** How many of these tokens, as one prompt segment at the start of a sequence, need no prefill. */
  cachedTokens(tokens: Int32Array): NativeJob<number>;

  /** Appends one prompt segment. Errors: `cancelled` (whole steps stay findable: prefill the same
   * segments on a new sequence), `context_exceeded`, `out_of_memory`. */
  prefill(
    sequence: number,
    tokens: Int32Array,
    options?: PrefillOptions,
    onProgress?: (progress: PrefillProgress) => void,
  ): NativeJob<PrefillProgress>;
  /** Appends one token. */
  decode<Detail extends TraceDetail = "none">(
    sequence: number,
    token: number,
    options?: DecodeOptions<Detail>,
  ): NativeJob<TraceOf[Detail]>;
  /** [vocabulary] of the last prefill or decode. */
  logits(): NativeJob<Float32Array>;
  /** Samples from the last logits and decodes until the turn ends. Cancelled while running, it
   * resolves with what was generated and `stop: "cancelled"`. */
  generate<Detail extends TraceDetail = "none">(
    sequence: number,
    options?: GenerateOptions<Detail>,
    onToken?: (token: GeneratedToken<Detail>) => void,
  ): NativeJob<GenerateReport>;

  /** Times the stages of decode steps on a copy of the sequence. */
  timeSteps(sequence: number, options?: TimingOptions): NativeJob<StepTiming>;

  /** Appends tokens as prompt and resolves to the logits of each: [tokens][vocabulary]. Tests only:
   * it is large and can't be cancelled. */
  prefillLogits(sequence: number, tokens: Int32Array): NativeJob<Float32Array>;
  /** Prefills tokens on a fresh sequence and measures what each candidate would cost each head. */
  measureHeads(
    tokens: Int32Array,
    options: MeasureOptions,
    onProgress?: (progress: PrefillProgress) => void,
  ): NativeJob<HeadErrors>;
  /** Prefills tokens on a fresh sequence and measures how often the heaviest token of each query head
   * is the one that is copied: [layers * queryHeads]. */
  measureRetrieval(
    tokens: Int32Array,
    copies: CopiedTokens,
    onProgress?: (progress: PrefillProgress) => void,
  ): NativeJob<Float64Array>;
  /** Decodes the tail, teacher forced, on forks of the sequence: densely, and in each mode. Logits stay
   * in the engine. The sequence and the engine's profile stay as they are. Errors: those of
   * `setProfile`, `cancelled`, `context_exceeded`, `out_of_memory`. */
  compareTail(
    sequence: number,
    tail: Int32Array,
    modes: TailMode[],
    onProgress?: (progress: TailProgress) => void,
  ): NativeJob<TailComparison[]>;
  /** @param text tokens to read: at least the largest depth and the decoded tokens. */
  bench(
    text: Int32Array,
    options: BenchOptions,
    onProgress?: (progress: BenchProgress) => void,
  ): NativeJob<BenchRow[]>;
}

export interface NativeAddon {
  /** Loads ggml's CPU back-ends from the folder, the best for this machine by ggml's own measure;
   * once per process, later calls must name the same folder. Log lines of libllama and ggml then
   * come to every environment that asked; `level` is 1 debug, 2 info, 3 warning, 4 error, 5 more of
   * the last line. Errors: `invalid_argument`. */
  initialise(libraryDir: string, onLog?: (level: number, text: string) => void): void;
  /** What can be said of a GGUF without loading its weights. May end the process on strange files:
   * see probeModel.ts. Errors: `model_not_found`, `model_broken`, `model_unsupported`. */
  inspectModel(path: string): Promise<ModelInfo>;
  /** The words of the engine's error codes, in order. */
  errorCodes(): string[];
  /** Of package.json, when it was built. */
  version(): string;
  /** Whether this build can compute on a GPU of this machine; `detail` is its name, or why not. */
  cudaSupport(): { isUsable: boolean; detail: string };
  readonly Engine: new () => NativeEngine;
}

const ownAddon = unpackedFile("native/build/Release/scholia.node");

/** `$SCHOLIA_ADDON` names another build, for sanitizers; an installed app takes no orders from outside. */
export const addonPath: string = isBundled ? ownAddon : (process.env.SCHOLIA_ADDON ?? ownAddon);

export const libraryDir = (): string =>
  isBundled ? unpackedFile("native/build/Release/lib") : join(nativeDir(), "lib");

/** @throws ScholiaError `internal` when there is no addon or this machine can't load it. */
export function loadAddon(): NativeAddon {
  try {
    return createRequire(import.meta.url)(addonPath) as NativeAddon;
  } catch (error) {
    const reason = error instanceof Error ? error.message.split("\n")[0] : String(error);
    throw new ScholiaError(
      "internal",
      `The engine could not be loaded (${reason}). Run npm start, which builds it.`,
    );
  }
}
