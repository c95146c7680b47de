/** The head profile's file: block size and budget of each head, found by `scholia calibrate`.
 * Documented in docs/head_profiles.md. A file is untrusted: it is parsed strictly, and refused with
 * `profile_broken` (not a profile) or `profile_mismatch` (a profile, but not of this model). */
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { budgetSchema, budgetTokensAt, usualBudget } from "../../contract/budget.ts";
import { ScholiaError } from "../../contract/errors.ts";
import { type DefaultBudget, type DigestKind, digestKinds } from "../../contract/heads.ts";
import { ownFile } from "../places.ts";

export const blockSizes = [16, 32, 64, 128] as const;
export const uniformBlockTokens = 32;

export const profileFormat = "scholia head profile";
export const profileVersion = 4;
/** A profile of 128 layers × 128 KV heads is about 2 MB. */
const maxFileBytes = 8 * 1024 * 1024;
const maxDimension = 1024;

const dimension = z.int().min(1).max(maxDimension);
/** One row for each layer, one number for each KV head. */
const perHead = <T extends z.ZodType>(value: T) =>
  z.array(z.array(value).min(1).max(maxDimension)).min(1).max(maxDimension);
const blockSize = z.union(blockSizes.map((size) => z.literal(size)));
const measure = z.number().min(0).max(1e6);
const estimate = z.strictObject({ value: measure, low: measure, high: measure });
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, "64 hexadecimal digits are expected");

export const headProfileSchema = z.strictObject({
  format: z.literal(profileFormat),
  version: z.literal(profileVersion),
  name: z.string().min(1).max(200),
  model: z.strictObject({
    name: z.string().max(200),
    fingerprint: sha256,
    layers: dimension,
    kvHeads: dimension,
    headDim: dimension,
  }),
  /** What summarises a kv_block, in INT4: the measurement holds for this only. */
  digest: z.enum(digestKinds),
  /** Where the bytes of uniform 32 were the limit. */
  reference: z.strictObject({
    contextTokens: z.int().min(256).max(16_777_216),
    budgetTokens: z.int().min(1).max(16_777_216),
  }),
  /** Of the windows and the planted facts: the same texts and seed give the same profile. */
  seed: z.int().min(0).max(0xffff_ffff),
  blockTokens: perHead(blockSize),
  /** Tokens read at the reference, forced ones included. Shares of another budget follow from it. */
  budgetTokens: perHead(z.int().min(1).max(16_777_216)),
  /** The cheapest budget that stayed below the bar of `contract/quality.ts`; null: none was looked for. */
  defaultBudget: z
    .strictObject({
      budget: budgetSchema,
      measured: z.strictObject({
        contextTokens: z.int().positive(),
        positions: z.int().positive(),
        kl: z.strictObject({ given: estimate, retrieval: estimate }),
        bytesPerToken: z.int().positive(),
        denseBytesPerToken: z.int().positive(),
      }),
    })
    .nullable(),
  measured: z.strictObject({
    /** Output error and recall of each head's choice. */
    outputError: perHead(measure),
    recall: perHead(measure),
    /** Output error of each head at the reference budget for blocks of 16, 32, 64 and 128. */
    errorByBlock: perHead(z.array(measure).length(blockSizes.length)),
    /** Means over heads of uniform 32 at the reference budget, for comparison. */
    uniform: z.strictObject({ outputError: measure, recall: measure }),
    bytesPerToken: z.int().positive(),
    uniformBytesPerToken: z.int().positive(),
    queries: z.int().positive(),
    /** Output error of every block size and budget that was measured; null: it was not kept. */
    errors: z
      .strictObject({
        budgetTokens: z.array(z.int().positive()).min(1).max(32),
        /** For blocks of 16, 32, 64 and 128, and for each budget. */
        table: perHead(z.array(z.array(measure).min(1).max(32)).length(blockSizes.length)),
      })
      .nullable(),
    /** How often the heaviest token of a query head of the group is the one that is copied, the best of
     * the group; null: it was not measured. */
    retrieval: z
      .strictObject({
        score: perHead(z.number().min(0).max(1)),
        /** Copied tokens that it was measured on. */
        copies: z.int().positive(),
        contextTokens: z.int().positive(),
      })
      .nullable(),
    /** How much a unit of each head's output error counted in the choice, their mean being 1; null: as much
     * as any other's. */
    influence: perHead(measure).nullable(),
  }),
  texts: z
    .array(
      z.strictObject({
        name: z.string().max(300),
        kind: z.enum(["given", "retrieval"]),
        sha256,
        tokens: z.int().positive(),
      }),
    )
    .min(1)
    .max(1000),
});
export type HeadProfile = z.infer<typeof headProfileSchema>;

/** The model facts that a profile must fit. */
export interface ModelShape {
  fingerprint: string;
  layers: number;
  kvHeads: number;
  headDim: number;
}

/** What the engine takes: flat, layer-major. */
export interface EngineHeadProfile {
  modelFingerprint: string;
  digest: DigestKind;
  blockTokens: number[];
  budgetShare: number[];
}

/** @throws ScholiaError `profile_broken`, naming the place in the file. */
export function parseHeadProfile(text: string, source: string): HeadProfile {
  if (text.length > maxFileBytes) {
    throw broken(source, `it is larger than ${maxFileBytes} bytes`);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw broken(source, error instanceof Error ? error.message : String(error));
  }
  const version = (value as { version?: unknown } | null)?.version;
  if (typeof version === "number" && version > profileVersion) {
    throw broken(source, `it is of version ${version}; this Scholia reads ${profileVersion}`);
  }
  const parsed = headProfileSchema.safeParse(fromOlder(value, version));
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const path = issue?.path.join(".") ?? "";
    throw broken(source, path === "" ? `${issue?.message}` : `${path}: ${issue?.message}`);
  }
  checkShape(parsed.data, source);
  return parsed.data;
}

/** What older versions did not have: influence before 4, a default budget before 3, all errors and retrieval
 * scores before 2. */
function fromOlder(value: unknown, version: unknown): unknown {
  if (version !== 1 && version !== 2 && version !== 3) return value;
  const profile = value as { measured?: object };
  return {
    ...(version < 3 ? { defaultBudget: null } : {}),
    ...profile,
    version: profileVersion,
    measured: {
      influence: null,
      ...(version < 2 ? { errors: null, retrieval: null } : {}),
      ...profile.measured,
    },
  };
}

/** Every table has the shape that the file claims. */
function checkShape(profile: HeadProfile, source: string) {
  const { layers, kvHeads } = profile.model;
  const { errors, retrieval, influence } = profile.measured;
  const tables = {
    blockTokens: profile.blockTokens,
    budgetTokens: profile.budgetTokens,
    "measured.outputError": profile.measured.outputError,
    "measured.recall": profile.measured.recall,
    "measured.errorByBlock": profile.measured.errorByBlock,
    ...(errors === null ? {} : { "measured.errors.table": errors.table }),
    ...(retrieval === null ? {} : { "measured.retrieval.score": retrieval.score }),
    ...(influence === null ? {} : { "measured.influence": influence }),
  };
  for (const [name, table] of Object.entries(tables)) {
    const fits = table.length === layers && table.every((row) => row.length === kvHeads);
    if (!fits) throw broken(source, `${name}: ${layers} rows of ${kvHeads} are expected`);
  }
  const budgets = errors?.budgetTokens.length;
  if (errors?.table.flat(2).some((byBudget) => byBudget.length !== budgets)) {
    throw broken(source, `measured.errors.table: ${budgets} budgets are expected`);
  }
}

export async function loadHeadProfile(path: string): Promise<HeadProfile> {
  let text: string;
  try {
    if ((await stat(path)).size > maxFileBytes) {
      throw broken(path, `it is larger than ${maxFileBytes} bytes`);
    }
    text = await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof ScholiaError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new ScholiaError("profile_broken", `The head profile ${path} can't be read: ${reason}.`);
  }
  return parseHeadProfile(text, path);
}

/** @throws ScholiaError `profile_mismatch` when the profile was made for another model. */
export function checkProfileFits(profile: HeadProfile, model: ModelShape): void {
  const { layers, kvHeads, headDim, fingerprint, name } = profile.model;
  const remedy = "Calibrate this model, or take the uniform profile.";
  if (layers !== model.layers || kvHeads !== model.kvHeads || headDim !== model.headDim) {
    const made = `${layers} layers × ${kvHeads} KV heads of ${headDim}`;
    const has = `${model.layers} × ${model.kvHeads} of ${model.headDim}`;
    throw new ScholiaError(
      "profile_mismatch",
      `The head profile "${profile.name}" is for ${made}; the model has ${has}. ${remedy}`,
    );
  }
  if (fingerprint !== model.fingerprint) {
    throw new ScholiaError(
      "profile_mismatch",
      `The head profile "${profile.name}" was made for other weights (${name}, ` +
        `${fingerprint.slice(0, 12)}…; this model: ${model.fingerprint.slice(0, 12)}…). ${remedy}`,
    );
  }
}

/** What the engine needs of a profile: shares of the budget, their mean being 1. */
export function engineProfile(profile: HeadProfile): EngineHeadProfile {
  const budgets = profile.budgetTokens.flat();
  const mean = budgets.reduce((sum, tokens) => sum + tokens, 0) / budgets.length;
  return {
    modelFingerprint: profile.model.fingerprint,
    digest: profile.digest,
    blockTokens: profile.blockTokens.flat(),
    budgetShare: budgets.map((tokens) => tokens / mean),
  };
}

/** What answers read where nobody chose. */
export const defaultBudgetOf = (profile: HeadProfile | null): DefaultBudget =>
  profile?.defaultBudget ?? { budget: usualBudget, measured: null };

/** The tokens of a chosen budget, or of the profile's default in a context of so many. */
export const budgetTokensOf = (
  chosen: number | null,
  profile: HeadProfile | null,
  contextTokens: number,
): number => chosen ?? budgetTokensAt(defaultBudgetOf(profile).budget, contextTokens);

/** Blocks of 32 tokens and the same budget for every head: what a model without a profile gets. */
export function uniformProfile(model: ModelShape): EngineHeadProfile {
  const heads = model.layers * model.kvHeads;
  return {
    modelFingerprint: "",
    digest: "mean_std",
    blockTokens: Array<number>(heads).fill(uniformBlockTokens),
    budgetShare: Array<number>(heads).fill(1),
  };
}

/** The file's text: one line for each row of a table, so that two versions can be compared. */
export function formatHeadProfile(profile: HeadProfile): string {
  const pretty = JSON.stringify(headProfileSchema.parse(profile), null, 2);
  // Innermost arrays on one line.
  return `${pretty.replace(/\[[^[\]{}"]*\]/g, (row) => row.replace(/\s+/g, " "))}\n`;
}

/** Profiles that come with Scholia. */
export function shippedProfilesDir(): string {
  return ownFile("models/profiles");
}

/** Profiles made on this machine. */
export function ownProfilesDir(dataDir: string): string {
  return join(dataDir, "profiles");
}

/** The profile of these weights, whatever its file is called; one made on this machine comes first.
 * A damaged file is skipped and named in `broken`. */
export async function findHeadProfile(
  fingerprint: string,
  folders: string[],
): Promise<
  { profile: HeadProfile; path: string; broken: string[] } | { profile: null; broken: string[] }
> {
  const broken: string[] = [];
  for (const folder of folders) {
    const names = await readdir(folder).catch(() => [] as string[]);
    for (const name of names.filter((name) => name.endsWith(".json")).sort()) {
      const path = join(folder, name);
      try {
        const profile = await loadHeadProfile(path);
        if (profile.model.fingerprint === fingerprint) return { profile, path, broken };
      } catch (error) {
        broken.push(error instanceof Error ? error.message : String(error));
      }
    }
  }
  return { profile: null, broken };
}

function broken(source: string, reason: string): ScholiaError {
  return new ScholiaError(
    "profile_broken",
    `The head profile ${source} is damaged or not a head profile: ${reason}.`,
  );
}
