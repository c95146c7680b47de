/** Every call a shell can make of the host. Inputs are zod values, because a shell is not trusted;
 * outputs are types, because the host is. A route without a handler does not compile
 * (`host/main.ts`). */
import { z } from "zod";
import { type Answer, modes } from "./answer.ts";
import type { BenchRow } from "./bench.ts";
import { budgetSchema, usualBudget } from "./budget.ts";
import {
  type Chat,
  type ChatEntry,
  type ExportedChat,
  type ReadMap,
  rowIdSchema,
} from "./chats.ts";
import {
  type DocumentDetail,
  type DocumentEntry,
  documentIdSchema,
  type FindResult,
  type PageImage,
  type PageText,
  type Preflight,
  pageRangeSchema,
  type ReadStore,
} from "./documents.ts";
import {
  allocations,
  type CalibrationReport,
  digestBits,
  digestKinds,
  type HeadCurves,
  type HeadTable,
  objectives,
} from "./heads.ts";
import type { MeasuredRate, MemoryEstimate, MemoryMap } from "./memory.ts";
import { equalities, type QualityReport, qualityParts, taskNames } from "./quality.ts";
import type { QueueItem } from "./queue.ts";
import { devices, type Settings, settingsSchema } from "./settings.ts";
import type { StepTimings } from "./timing.ts";

export { type Device, devices } from "./settings.ts";

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
  path: z.string().min(1).optional(),
  /** A document of the library, instead of a path. */
  documentId: documentIdSchema.optional(),
  pages: pageRangeSchema.optional(),
};

/** A document is named in one of two ways. */
const named = <S extends z.ZodType<{ path?: string | undefined; documentId?: string | undefined }>>(
  schema: S,
): S =>
  schema.refine(
    ({ path, documentId }) => (path === undefined) !== (documentId === undefined),
    "either path or documentId is expected",
  );

/** A document of the library and the chosen pages. */
const entryShape = { documentId: documentIdSchema, pages: pageRangeSchema.optional() };

const budgetTokens = z.int().min(1).max(16_777_216);

const answerShape = {
  mode: z.enum(modes).default("ab-sparse"),
  /** Null: the default of the model's profile. */
  budgetTokens: budgetTokens.nullable().default(null),
  temperature: z.number().min(0).max(10).default(0),
  seed: z.int().min(0).max(0xffff_ffff).default(0),
  maxTokens: z.int().min(1).max(1_048_576).default(512),
};

const questionShape = { question: z.string().trim().min(1).max(1_000_000) };

/** Calls with one reply. */
export const requestInputs = {
  "host.hello": z.strictObject({}),
  "host.check": engineSettingsSchema,
  /** What to copy into a report of a defect; holds no text of documents and chats. */
  "host.diagnostics": z.strictObject({}),
  "models.list": z.strictObject({}),
  "models.remove": z.strictObject({ id: z.string().min(1).max(200) }),
  "heads.list": engineSettingsSchema,
  /** What calibration measured for each block size. */
  "heads.curves": engineSettingsSchema,

  "documents.list": z.strictObject({}),
  /** A file enters the library, or is found to be there. */
  "documents.add": z.strictObject({ path: z.string().min(1).max(4096) }),
  /** A text that has no file, pasted, say. */
  "documents.addText": z.strictObject({ text: z.string().regex(/\S/).max(2_000_000) }),
  /** The sample document enters the library. */
  "documents.addSample": z.strictObject({}),
  /** Takes it out of the list, and its KV from the disk. Chats are kept: adding the file again brings
   * them back. */
  "documents.remove": z.strictObject({ documentId: documentIdSchema }),
  "documents.rename": z.strictObject({
    documentId: documentIdSchema,
    title: z.string().trim().min(1).max(500),
  }),
  "document.page": z.strictObject({ ...entryShape, page: z.int().positive() }),
  "document.picture": z.strictObject({
    documentId: documentIdSchema,
    page: z.int().positive(),
    /** Pixels; the height follows. */
    width: z.int().min(16).max(4096),
  }),
  "document.find": z.strictObject({
    ...entryShape,
    query: z.string().min(1).max(1000),
    limit: z.int().min(1).max(10_000).default(1000),
  }),

  "reads.list": z.strictObject({}),
  "reads.pin": z.strictObject({ key: rowIdSchema, pinned: z.boolean() }),
  "reads.remove": z.strictObject({ key: rowIdSchema }),

  "queue.list": z.strictObject({}),
  "queue.add": z.strictObject({
    ...entryShape,
    ...engineShape,
    maxTokens: answerShape.maxTokens,
  }),
  "queue.pause": z.strictObject({ id: rowIdSchema }),
  "queue.resume": z.strictObject({ id: rowIdSchema }),
  /** Also dismisses an ended one. What is read stays on the disk. */
  "queue.cancel": z.strictObject({ id: rowIdSchema }),
  /** To the head of those that wait. */
  "queue.first": z.strictObject({ id: rowIdSchema }),

  /** For shells that show one branch: its turns. */
  "chat.open": named(
    z.strictObject({
      ...documentShape,
      /** Continues this chat; absent: a new one. */
      chatId: rowIdSchema.optional(),
    }),
  ),
  "chats.list": z.strictObject({
    documentId: documentIdSchema.optional(),
    /** Words of questions, answers or titles. */
    query: z.string().max(1000).optional(),
  }),
  "chat.get": z.strictObject({ chatId: rowIdSchema }),
  "chat.rename": z.strictObject({ chatId: rowIdSchema, title: z.string().trim().min(1).max(500) }),
  "chat.remove": z.strictObject({ chatId: rowIdSchema }),
  /** Shows the branch that ends with this turn, or goes through it. */
  "chat.show": z.strictObject({ chatId: rowIdSchema, turnId: rowIdSchema }),
  "chat.readMap": z.strictObject({ turnId: rowIdSchema }),
  "chat.export": z.strictObject({ chatId: rowIdSchema, format: z.enum(["markdown", "json"]) }),

  "memory.map": z.strictObject({}),
  /** What a model with a profile would need; it need not be open, but must be here. */
  "memory.estimate": engineSettingsSchema,
  "rates.list": z.strictObject({}),
  "settings.get": z.strictObject({}),
  "settings.set": settingsSchema.partial(),
  /** Runs that go on or have just ended: a window that was opened late attaches to them. */
  "runs.list": z.strictObject({}),
} as const;

/** Calls that stream and can be stopped. */
export const runInputs = {
  /** Parses a document: its pages, outline and what was found wrong with it. */
  "document.open": z.strictObject(entryShape),
  /** What reading it would take. Loads the model. */
  "document.preflight": z.strictObject({
    ...entryShape,
    ...engineShape,
    budgetTokens: answerShape.budgetTokens,
    maxTokens: answerShape.maxTokens,
  }),
  "document.read": named(
    z.strictObject({
      ...documentShape,
      ...engineShape,
      maxTokens: answerShape.maxTokens,
    }),
  ),
  "answer.ask": named(
    z.strictObject({
      ...documentShape,
      ...engineShape,
      ...answerShape,
      ...questionShape,
      /** The answer becomes a turn of this chat. */
      chatId: rowIdSchema.optional(),
      /** The turn that the question follows; null: none, it begins the chat. Absent: the last one of
       * the branch that is shown. To ask again or after an edit, give the parent of the turn that was
       * asked before. */
      parentId: rowIdSchema.nullable().optional(),
      /** While the document is being read: answer from the pages read so far, and say which. */
      readSoFar: z.boolean().default(false),
      /** Send trace frames. */
      trace: z.boolean().default(false),
    }),
  ),
  "heads.calibrate": z.strictObject({
    ...engineShape,
    texts: z.array(z.string().min(1)).min(1).max(1000),
    /** Measure only how the heads retrieve, and add it to the model's profile. */
    retrievalOnly: z.boolean().default(false),
    /** Where the profile goes; absent: beside the data, under its model's name. */
    output: z.string().min(1).optional(),
    /** Profile's name; absent: the model's. */
    name: z.string().min(1).max(200).optional(),
    referenceContext: z.int().positive().optional(),
    referenceBudget: z.int().positive().optional(),
    objective: z.enum(objectives).default("influence"),
    allocate: z.enum(allocations).default("both"),
    seed: z.int().min(0).max(0xffff_ffff).default(0),
  }),
  "bench.run": z.strictObject({
    ...engineShape,
    depths: z.array(z.int().min(1).max(16_777_216)).min(1).max(64),
    modes: z.array(z.enum(modes)).min(1).max(2),
    budgetTokens: budgetTokens.default(usualBudget.tokens),
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
  /** Times decode steps in the context of the last answer, dense and sparse. */
  "timing.steps": z.strictObject({
    ...engineShape,
    budgetTokens: answerShape.budgetTokens,
    steps: z.int().min(1).max(64).default(8),
  }),
  "quality.run": z.strictObject({
    ...engineShape,
    texts: z.array(z.string().min(1)).min(1).max(100),
    what: z.array(z.enum(qualityParts)).min(1),
    /** Of document, question and answer together; absent: the profile's reference. */
    contextTokens: z.int().min(1024).max(16_777_216).optional(),
    budgetTokens: budgetTokens.default(1024),
    /** Positions at the end of each text that are read one by one. */
    tailTokens: z.int().min(16).max(65_536).default(256),
    /** Empty: all. */
    tasks: z.array(z.enum(taskNames)).default([]),
    /** Documents of each task. */
    samples: z.int().min(1).max(1000).default(2),
    /** Facts planted in each text, for citations. */
    facts: z.int().min(1).max(200).default(20),
    /** Compare these digests, each with these bits, with uniform 32's. */
    digests: z.array(z.enum(digestKinds)).default([]),
    bits: z.array(z.union(digestBits.map((bits) => z.literal(bits)))).default([4]),
    /** What the digests are compared at: equal bytes read per token, or equal budgets. */
    same: z.enum(equalities).default("bytes"),
    /** Compare these head profiles, too, each at the bytes of uniform 32. */
    profiles: z.array(z.string().min(1)).max(16).default([]),
    /** Compare the profile at these budgets. */
    budgets: z.array(budgetSchema).max(16).default([]),
    /** Where the profile goes with the cheapest of the budgets that stays below the bar for its default;
     * absent: nowhere. */
    output: z.string().min(1).optional(),
    /** Compare the profile at the bytes of uniform 32, and so many maps with shuffled heads; absent: one,
     * and none beside digests, profiles or budgets. */
    shuffles: z.int().min(0).max(16).optional(),
    seed: z.int().min(0).max(0xffff).default(1),
  }),
  "models.get": z.strictObject({ id: z.string().min(1).max(200) }),
} as const;

/** The files of this machine that an input names: a window may name only those that it was given. */
export function namedFiles(input: unknown): string[] {
  if (typeof input !== "object" || input === null) return [];
  const { path, output, texts, model, profile, profiles } = input as Record<string, unknown>;
  // Catalog ids hold no separators; "uniform" is no file.
  const models = [model].filter((name) => typeof name === "string" && /[/\\]/.test(name));
  const ownProfile = [profile].filter((name) => name !== "uniform");
  return [path, output, texts, models, ownProfile, profiles]
    .flat()
    .filter((name): name is string => typeof name === "string");
}

export type RequestRoute = keyof typeof requestInputs;
export type RunRoute = keyof typeof runInputs;
export type RequestInput<R extends RequestRoute> = z.input<(typeof requestInputs)[R]>;
export type RequestParsed<R extends RequestRoute> = z.output<(typeof requestInputs)[R]>;
export type RunInput<R extends RunRoute> = z.input<(typeof runInputs)[R]>;
export type RunParsed<R extends RunRoute> = z.output<(typeof runInputs)[R]>;

export interface RequestOutputs {
  "host.hello": { version: string; pid: number };
  "host.check": CheckLine[];
  "host.diagnostics": { text: string };
  "models.list": ModelLine[];
  "models.remove": null;
  "heads.list": HeadTable;
  "heads.curves": HeadCurves | null;
  "documents.list": DocumentEntry[];
  "documents.add": DocumentEntry;
  "documents.addText": DocumentEntry;
  "documents.addSample": DocumentEntry;
  "documents.remove": null;
  "documents.rename": DocumentEntry;
  "document.page": PageText;
  "document.picture": PageImage;
  "document.find": FindResult;
  "reads.list": ReadStore;
  "reads.pin": null;
  "reads.remove": null;
  "queue.list": QueueItem[];
  "queue.add": QueueItem;
  "queue.pause": null;
  "queue.resume": null;
  "queue.cancel": null;
  "queue.first": null;
  "chat.open": { chatId: string; turns: ChatTurn[] };
  "chats.list": ChatEntry[];
  "chat.get": Chat;
  "chat.rename": null;
  "chat.remove": null;
  "chat.show": null;
  "chat.readMap": ReadMap;
  "chat.export": ExportedChat;
  "memory.map": MemoryMap;
  "memory.estimate": MemoryEstimate;
  "rates.list": MeasuredRate[];
  "settings.get": Settings;
  "settings.set": Settings;
  "runs.list": RunEntry[];
}

/** A run that goes on or has just ended. */
export interface RunEntry {
  runId: string;
  route: RunRoute;
  startedAt: string;
  ended: boolean;
}

export interface RunOutputs {
  "document.open": DocumentDetail;
  "document.preflight": Preflight;
  "document.read": ReadReport;
  "answer.ask": Answer;
  "heads.calibrate": CalibrationReport;
  "bench.run": BenchRow[];
  "timing.steps": StepTimings;
  "quality.run": QualityReport;
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
  /** Whether it fits this machine with a long document; an estimate from the catalog. */
  fitsMemory: boolean;
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
