import { join } from "node:path";
import { cacheDir } from "./cacheDir.js";

export { cacheDir };

/** The release of llama.cpp's libraries and headers that the engine is built against: the version
 * of the npm packages `node-llama-cpp` and `@node-llama-cpp/<platform>`. */
export const nativeVersion = "3.22.1";

/** Weights, one file per model: `<id>.gguf`. */
export const modelsDir = (): string => join(cacheDir(), "models");

/** Headers (`include/`) and shared libraries (`lib/`) of ggml and libllama. */
export const nativeDir = (): string => join(cacheDir(), "native", nativeVersion);

/** A Node for machines whose own is too old: `<version>/bin/node`. */
export const nodeDir = (): string => join(cacheDir(), "node");

/** Real documents that tests read. */
export const documentsDir = (): string => join(cacheDir(), "documents");

/** Unfinished downloads; safe to delete at any time. */
export const downloadsDir = (): string => join(cacheDir(), "downloads");
