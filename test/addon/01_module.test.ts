import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { engineErrorCodes } from "../../contract/errors.ts";
import {
  libraryDir,
  loadAddon,
  type NativeAddon,
  type NativeEngine,
} from "../../host/engine/addon.ts";
import { nativeAddon } from "./support.ts";

/** Every member of the hand-written types, by the compiler's word. */
const moduleMembers: Record<keyof NativeAddon, true> = {
  initialise: true,
  inspectModel: true,
  errorCodes: true,
  version: true,
  cudaSupport: true,
  Engine: true,
};
const engineMembers: Record<keyof NativeEngine, true> = {
  open: true,
  close: true,
  cancel: true,
  memory: true,
  memoryNow: true,
  profile: true,
  setProfile: true,
  tokenize: true,
  detokenize: true,
  isEndOfTurn: true,
  createSequence: true,
  fork: true,
  truncate: true,
  release: true,
  sequenceTokens: true,
  sequenceKey: true,
  storedRuns: true,
  cachedTokens: true,
  prefill: true,
  decode: true,
  logits: true,
  generate: true,
  prefillLogits: true,
  timeSteps: true,
  measureHeads: true,
  measureRetrieval: true,
  compareTail: true,
  bench: true,
};

describe("the module", () => {
  const addon = loadAddon();

  test("exports what addon.ts says, no more and no less", () => {
    expect(Object.keys(addon).sort()).toEqual(Object.keys(moduleMembers).sort());
    const methods = Object.getOwnPropertyNames(addon.Engine.prototype);
    expect(methods.filter((name) => name !== "constructor").sort()).toEqual(
      Object.keys(engineMembers).sort(),
    );
  });

  test("names the error codes that contract/errors.ts names, in its order", () => {
    expect(addon.errorCodes()).toEqual(engineErrorCodes);
  });

  test("has the version of package.json", () => {
    const manifest = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
    expect(addon.version()).toBe(JSON.parse(manifest).version);
  });
});

describe("initialise", () => {
  const addon = nativeAddon();

  test("may be called again with the same folder", () => {
    expect(() => addon.initialise(`${libraryDir()}/../lib/`)).not.toThrow();
  });

  test.each([
    ["another folder", "/usr", /has loaded .* already/],
    ["a folder that is not there", "/no/such/folder", /no folder/],
    ["a path with NUL", "/usr\0", /libraryDir must be a path/],
    ["a number", 7, /libraryDir must be a string, but is the number 7/],
  ])("refuses %s", (_name, folder, message) => {
    const call = () => addon.initialise(folder as string);
    expect(call).toThrow(message);
    expect(call).toThrow(expect.objectContaining({ code: "invalid_argument" }));
  });
});

describe("inspectModel", () => {
  test("rejects with a code", async () => {
    const addon = nativeAddon();
    await expect(addon.inspectModel("/no/such.gguf")).rejects.toMatchObject({
      code: "model_not_found",
    });
    expect(() => addon.inspectModel(undefined as unknown as string)).toThrow("path must be");
  });
});
