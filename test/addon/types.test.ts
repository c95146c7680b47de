/** What the compiler must say of the engine's types; checked by `npm run typecheck`. */
import { describe, expectTypeOf, test } from "vitest";
import type { ScholiaError } from "../../contract/errors.ts";
import type {
  GeneratedToken,
  MassTrace,
  NativeAddon,
  NativeEngine,
  NativeJob,
  StepTrace,
} from "../../host/engine/addon.ts";
import type { Engine, GenerateReport, PrefillProgress } from "../../host/engine/engine.ts";
import type { Tokenizer } from "../../host/tokens/tokenize.ts";

// Never called: only the types are looked at.
const never = () => false as boolean;

describe("types", () => {
  test("a trace has what was asked for", () => {
    if (!never()) return;
    const engine = {} as Engine;
    expectTypeOf(engine.decode(0, 1)).resolves.toEqualTypeOf<null>();
    expectTypeOf(engine.decode(0, 1, { trace: "none" })).resolves.toEqualTypeOf<null>();
    expectTypeOf(engine.decode(0, 1, { trace: "counts" })).resolves.toEqualTypeOf<StepTrace>();
    expectTypeOf(engine.decode(0, 1, { trace: "mass" })).resolves.toEqualTypeOf<MassTrace>();
    expectTypeOf<MassTrace>().toExtend<StepTrace>();
    expectTypeOf<StepTrace>().not.toHaveProperty("mass");
  });

  test("a stream yields tokens with the trace that was asked for", () => {
    if (!never()) return;
    const stream = ({} as Engine).stream(0, { trace: "mass" });
    expectTypeOf(stream).toExtend<AsyncIterable<GeneratedToken<"mass">>>();
    expectTypeOf<GeneratedToken<"mass">["trace"]>().toEqualTypeOf<MassTrace | null>();
    expectTypeOf<GeneratedToken<"none">["trace"]>().toEqualTypeOf<null>();
    expectTypeOf(stream.report).resolves.toEqualTypeOf<GenerateReport>();
  });

  test("jobs have an id and a promise", () => {
    if (!never()) return;
    const native = {} as NativeEngine;
    expectTypeOf(native.prefill(0, new Int32Array())).toEqualTypeOf<NativeJob<PrefillProgress>>();
    expectTypeOf(native.close).returns.resolves.toBeVoid();
    expectTypeOf(native.cancel).parameters.toEqualTypeOf<[id: number]>();
    expectTypeOf<NativeAddon["Engine"]>().toBeConstructibleWith();
  });

  test("wrong arguments don't compile", () => {
    if (!never()) return;
    const native = {} as NativeEngine;
    // @ts-expect-error tokens are an Int32Array
    native.prefill(0, [1, 2]);
    // @ts-expect-error a trace is a word
    native.decode(0, 1, { trace: true });
    // @ts-expect-error there is no such option
    native.generate(0, { budget: 5 });
    // @ts-expect-error parseSpecial decides whether a document can end a turn: it has no default
    native.tokenize("text");
    // @ts-expect-error a mode of the contract
    native.decode(0, 1, { mode: "sparse" });
    // @ts-expect-error engines are opened
    new ((class {}) as unknown as typeof Engine)();
  });

  test("the host's parts can take an engine", () => {
    expectTypeOf<Engine>().toExtend<Tokenizer>();
    expectTypeOf<ScholiaError>().toHaveProperty("code");
  });
});
