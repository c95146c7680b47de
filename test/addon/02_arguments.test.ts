import { afterAll, describe, expect, test } from "vitest";
import type { NativeEngine } from "../../host/engine/addon.ts";
import { nativeAddon } from "./support.ts";

const addon = nativeAddon();
const engine = new addon.Engine();
afterAll(() => engine.close());

/** The methods with arguments of any type. */
const any = engine as unknown as Record<keyof NativeEngine, (...values: unknown[]) => unknown>;
const tokens = new Int32Array(1);
const profile = {
  modelFingerprint: "",
  digest: "mean_std",
  blockTokens: new Uint16Array(1),
  budgetShare: new Float32Array(1),
};
const measure = { tailTokens: 1, queries: 1, blockTokens: tokens, budgetTokens: tokens };

describe("a wrong argument throws at once and is named with expectation and value", () => {
  const cases: [keyof NativeEngine, unknown[], string][] = [
    ["open", [], "config.modelPath must be a string, but is undefined"],
    ["open", ["a.gguf"], 'config must be an object of options, but is the string "a.gguf"'],
    ["open", [{ modelPath: "" }], "config.modelPath must be a path"],
    ["open", [{ modelPath: "a\0b" }], "config.modelPath must be a path"],
    ["open", [{ modelPath: "a", gpu: 1 }], 'config has no option "gpu"; it knows modelPath'],
    ["open", [{ modelPath: "a", device: "tpu" }], 'one of "auto" "cpu" "cuda", but is the string'],
    ["open", [{ modelPath: "a", threads: -1 }], "config.threads must be a whole number from 0"],
    ["open", [{ modelPath: "a", threads: 1.5 }], "but is the number 1.5"],
    ["open", [{ modelPath: "a", kvPoolBytes: 2 ** 53 }], "config.kvPoolBytes must be"],
    ["open", [{ modelPath: "a", chunkTokens: 0 }], "config.chunkTokens must be"],
    ["open", [{ modelPath: "a", prefillStepTokens: -1 }], "config.prefillStepTokens must be"],
    ["open", [{ modelPath: "a" }, 5], "onProgress must be a function, but is the number 5"],
    ["cancel", ["1"], "id must be a whole number"],
    ["cancel", [Number.NaN], "but is the number nan"],
    ["setProfile", [], "profile must be a head profile, but is undefined"],
    ["setProfile", [{ ...profile, digest: "median" }], 'one of "mean_std" "quest" "arkvale"'],
    ["setProfile", [{ ...profile, blockTokens: [32] }], "must be a Uint16Array, but is an array"],
    ["setProfile", [{ ...profile, budgetShare: tokens }], "a typed array of another kind"],
    ["tokenize", ["a"], "parseSpecial must be true or false, but is undefined"],
    ["tokenize", [Symbol("a"), true], "text must be a string, but is a symbol"],
    ["detokenize", [[1, 2]], "tokens must be an Int32Array, but is an array"],
    ["detokenize", [new Uint32Array(1)], "but is a typed array of another kind"],
    ["isEndOfTurn", [-1], "token must be a whole number from 0"],
    ["fork", [-1], "sequence must be a whole number from 0 to 2147483647, but is the number -1"],
    ["fork", [2 ** 31], "but is the number 2147483648"],
    ["fork", [1n], "but is a bigint"],
    ["truncate", [0, Number.POSITIVE_INFINITY], "tokens must be a whole number"],
    ["cachedTokens", [null], "tokens must be an Int32Array, but is null"],
    ["prefill", [0, tokens, { persist: 1 }], "options.persist must be true or false"],
    ["prefill", [0, tokens, []], "options must be an object of options, but is an array"],
    ["prefill", [0, tokens, () => {}], "options must be an object of options, but is a function"],
    ["prefill", [0, tokens, {}, {}], "onProgress must be a function, but is an object"],
    ["decode", [0, 1, { mode: "sparse" }], 'one of "ab-sparse" "dense"'],
    ["decode", [0, 1, { budgetTokens: 0 }], "options.budgetTokens must be a whole number from 1"],
    ["decode", [0, 1, { trace: true }], 'one of "none" "counts" "mass", but is true'],
    ["generate", [0, { temperature: -1 }], "options.temperature must be a number from 0 to 100"],
    ["generate", [0, { topP: 1.01 }], "options.topP must be a number from 0 to 1"],
    ["generate", [0, { minP: Number.NaN }], "options.minP must be a number"],
    ["generate", [0, { seed: 2 ** 32 }], "options.seed must be a whole number"],
    ["generate", [0, { maxTokens: 0 }], "options.maxTokens must be a whole number from 1"],
    ["generate", [0, { budget: 5 }], 'options has no option "budget"'],
    ["measureHeads", [tokens], "options must be an object of options, but is undefined"],
    ["measureHeads", [tokens, { ...measure, queries: 0 }], "options.queries must be"],
    ["bench", [tokens, { depths: tokens, modes: ["dens"] }], "options.modes[0] must be one of"],
    ["bench", [tokens, { depths: [1], modes: [] }], "options.depths must be an Int32Array"],
  ];

  test.each(cases)("%s %#", (method, values, message) => {
    const call = () => any[method](...values);
    expect(call).toThrow(message);
    expect(call).toThrow(expect.objectContaining({ code: "invalid_argument" }));
    expect(call).toThrow(`Engine.${method}: `);
  });

  test("a long value is shown short", () => {
    const call = () => any.tokenize("a", "b".repeat(10_000));
    expect(call).toThrow(`the string "${"b".repeat(60)}…"`);
  });

  test("what a getter throws comes through", () => {
    const config = {
      get modelPath(): string {
        throw new RangeError("from the getter");
      },
    };
    expect(() => engine.open(config)).toThrow(new RangeError("from the getter"));
  });
});

describe("a wrong `this` is refused", () => {
  const { memory } = engine;
  test.each([
    ["nothing", undefined],
    ["an object", {}],
    ["the prototype", addon.Engine.prototype],
    ["an object that inherits from an engine", Object.create(engine)],
  ])("%s", (_name, other) => {
    expect(() => memory.call(other as unknown as NativeEngine)).toThrow();
  });

  test("the class can't be called without new", () => {
    expect(() => (addon.Engine as unknown as () => void)()).toThrow("without 'new'");
  });
});

test("without an open model every job is refused", async () => {
  await expect(engine.memory().promise).rejects.toMatchObject({
    code: "invalid_argument",
    message: "The engine has no open model.",
  });
});
