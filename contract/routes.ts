/** Every call a shell can make of the host. Inputs are zod values, because a shell is not trusted;
 * outputs are types, because the host is. A route without a handler does not compile
 * (`host/main.ts`). */
import { z } from "zod";
import { type Answer, modes } from "./answer.ts";
import type { BenchRow } from "./bench.ts";
import type { CalibrationReport, HeadTable } from "./heads.ts";

/** Pages as `--pages` takes them: "1-20,25" or "30-". */
const pageRangeSchema = z.string().min(1).max(1000);

export const devices = ["auto", "cpu", "cuda"] as const;
export type Device = (typeof devices)[number];

/** Which model, where, and with which head profile. */
const engineShape = {
  /** A catalog id or the path of a GGUF; absent: the best of the catalog that fits. */
  model: z.string().min(1).optional(),
  /** Path of a head profile, or "uniform"; absent: the model's own where there is one. */
  profile: z.string().min(1).optional(),
  device: z.enum(devices).default("auto"),
  /** 0: the machine's cores. */
  threads: z.int().min(0).max(1024).default(0),
};
export const engineSettingsSchema = z.strictObject(engineShape);
export type EngineSettings = z.infer<typeof engineSettingsSchema>;

const documentShape = {
  /** Path of the document. */
  path: z.string().min(1),
  pages: pageRangeSchema.optional(),
};

const answerShape = {
  mode: z.enum(modes).default("ab-sparse"),
  budgetTokens: z.int().min(1).max(16_777_216).default(2048),
  temperature: z.number().min(0).max(10).default(0),
  seed: z.int().min(0).max(0xffff_ffff).default(0),
  maxTokens: z.int().min(1).max(1_048_576).default(512),
};

const questionShape = { question: z.string().trim().min(1).max(1_000_000) };

/** Calls with one reply. */
export const requestInputs = {
  "host.hello": z.strictObject({}),
  "host.check": engineSettingsSchema,
  "models.list": z.strictObject({}),
  "heads.list": engineSettingsSchema,
  "chat.open": z.strictObject({
    ...documentShape,
    /** Continues this chat; absent: a new one. */
    chatId: z
      .string()
      .regex(/^[0-9a-f-]{1,64}$/)
      .optional(),
  }),
} as const;

/** Calls that stream and can be stopped. */
export const runInputs = {
  "document.read": z.strictObject({
    ...documentShape,
    ...engineShape,
    maxTokens: answerShape.maxTokens,
  }),
  "answer.ask": z.strictObject({
    ...documentShape,
    ...engineShape,
    ...answerShape,
    ...questionShape,
    /** The answer becomes a turn of this chat. */
    chatId: z.string().optional(),
    /** Send trace frames. */
    trace: z.boolean().default(false),
  }),
  "heads.calibrate": z.strictObject({
    ...engineShape,
    texts: z.array(z.string().min(1)).min(1).max(1000),
    /** Where the profile goes; absent: beside the data, under its model's name. */
    output: z.string().min(1).optional(),
    /** Profile's name; absent: the model's. */
    name: z.string().min(1).max(200).optional(),
    referenceContext: z.int().positive().optional(),
    referenceBudget: z.int().positive().optional(),
    seed: z.int().min(0).max(0xffff_ffff).default(0),
  }),
  "bench.run": z.strictObject({
    ...engineShape,
    depths: z.array(z.int().min(1).max(16_777_216)).min(1).max(64),
    modes: z.array(z.enum(modes)).min(1).max(2),
    budgetTokens: answerShape.budgetTokens,
    /** Also run libllama on the same file, in turns. */
    peer: z.boolean().default(false),
    repetitions: z.int().min(1).max(99).default(5),
    decodeTokens: z.int().min(1).max(4096).default(32),
    what: z
      .array(z.enum(["prefill", "decode"]))
      .min(1)
      .default(["prefill", "decode"]),
    seed: z.int().min(0).max(0xffff_ffff).default(0),
  }),
  "models.get": z.strictObject({ id: z.string().min(1).max(200) }),
} as const;

export type RequestRoute = keyof typeof requestInputs;
export type RunRoute = keyof typeof runInputs;
export type RequestInput<R extends RequestRoute> = z.input<(typeof requestInputs)[R]>;
export type RequestParsed<R extends RequestRoute> = z.output<(typeof requestInputs)[R]>;
export type RunInput<R extends RunRoute> = z.input<(typeof runInputs)[R]>;
export type RunParsed<R extends RunRoute> = z.output<(typeof runInputs)[R]>;

export interface RequestOutputs {
  "host.hello": { version: string; pid: number };
  "host.check": CheckLine[];
  "models.list": ModelLine[];
  "heads.list": HeadTable;
  "chat.open": { chatId: string; turns: ChatTurn[] };
}

export interface RunOutputs {
  "document.read": ReadReport;
  "answer.ask": Answer;
  "heads.calibrate": CalibrationReport;
  "bench.run": BenchRow[];
  "models.get": { id: string; path: string; bytes: number };
}

/** One line of `scholia doctor`. */
export interface CheckLine {
  name: string;
  /** "note": works, but something is worth knowing. */
  state: "ok" | "note" | "fails";
  detail: string;
  /** What to do about it; with "fails" always. */
  remedy?: string;
}

export interface ModelLine {
  id: string;
  name: string;
  licence: string;
  bytes: number;
  contextTokens: number;
  /** "ready": whole on this disk; "partial": a download can go on. */
  state: "ready" | "partial" | "absent";
  path: string | null;
  isDefault: boolean;
}

export interface ChatTurn {
  question: string;
  answer: string;
}

/** What `scholia read` did. */
export interface ReadReport {
  document: { id: string; path: string; title: string };
  pages: string;
  documentPages: number;
  pagesWithoutText: number[];
  documentTokens: number;
  /** Tokens of the read: the document and the few around it. */
  readTokens: number;
  prefillTokens: number;
  cachedInMemory: number;
  cachedOnDisk: number;
  prefillSeconds: number;
  prefillTokensPerSecond: number;
  /** The read's name in the store. */
  key: string;
  runs: number;
  storedBytes: number;
  model: { name: string; fingerprint: string; device: string };
  notices: string[];
}
