/** What AB-Sparse promises of its answers, on the small model and real texts: docs/quality.md has the
 * larger runs. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Engine } from "../../host/engine/engine.ts";
import { modelPath } from "../../host/models/catalog.ts";
import {
  findHeadProfile,
  type HeadProfile,
  shippedProfilesDir,
} from "../../host/models/headProfile.ts";
import {
  type Divergence,
  type HeldOutText,
  measureDivergence,
} from "../../host/quality/divergence.ts";
import { madeUpFacts, names } from "../../host/quality/madeUpFacts.ts";
import {
  dense,
  profiled,
  profiledAtEqualBytes,
  type ReadingMode,
  uniform,
} from "../../host/quality/readingModes.ts";
import { realDocument } from "../fixtures/realDocuments.ts";
import { askNeedles, foundBy } from "./needles.ts";
import {
  neededDocuments,
  needleHeldOutText,
  plainHeldOutTexts,
  retrievalHeldOutTexts,
} from "./texts.ts";

const contextTokens = 6144;
const budgetTokens = 1024;
const tailTokens = 192;
const minutes = 60_000;

const geometricMean = (values: number[]): number =>
  Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);

describe("the measures", () => {
  test("a value is found as a word of its own", () => {
    expect(names("It is 1234.", "1234")).toBe(true);
    expect(names("It is 1,234 metres.", "1234")).toBe(true);
    expect(names('Its capital is "TROVO"', "Trovo")).toBe(true);
    expect(names("It is 12345.", "1234")).toBe(false);
    expect(names("", "1234")).toBe(false);
  });

  test("facts are the same for the same seed, and all different", () => {
    const facts = madeUpFacts(20, 7);
    expect(madeUpFacts(20, 7)).toEqual(facts);
    expect(new Set(facts.map(({ question }) => question)).size).toBe(20);
    for (const { sentence, opening, value } of facts) {
      expect(sentence.startsWith(opening)).toBe(true);
      expect(names(sentence.slice(opening.length), value)).toBe(true);
    }
  });
});

describe("SmolLM2-135M reads 1,024 of 6,144 tokens", () => {
  let engine: Engine;
  let profile: HeadProfile;

  beforeAll(async () => {
    engine = await Engine.open({ modelPath: modelPath("smollm2-135m") });
    const found = await findHeadProfile(engine.model.fingerprint, [shippedProfilesDir()]);
    expect(found.broken).toEqual([]);
    if (found.profile === null) throw new Error("no profile comes with SmolLM2-135M");
    profile = found.profile;
  });
  beforeEach((context) => {
    for (const name of neededDocuments) realDocument(name, context);
  });
  afterAll(() => engine?.close());

  test(
    "a budget that covers the context reads as dense decode does, bit for bit",
    async () => {
      const [text] = await plainHeldOutTexts(engine, 2048, 8);
      const [row] = await measure(text!, [profiled(engine, profile, 2048)]);
      expect(row!.kl).toBe(0);
      expect(row!.lossIncrease).toBe(0);
    },
    5 * minutes,
  );

  test(
    "the profile's divergence is at most 0.6 of uniform 32's",
    async () => {
      const [manual, code] = await plainHeldOutTexts(engine, contextTokens, tailTokens);
      const [retrieval] = await retrievalHeldOutTexts(engine, contextTokens);
      const modes = [
        uniform(engine, 32, budgetTokens),
        profiled(engine, profile, budgetTokens),
        profiledAtEqualBytes(engine, profile, budgetTokens, contextTokens),
      ];
      const rows: Divergence[] = [];
      for (const text of [manual!, code!, retrieval!]) rows.push(...(await measure(text, modes)));
      console.table(rows);
      const mean = (mode: ReadingMode) =>
        geometricMean(rows.filter((row) => row.mode === mode.name).map(({ kl }) => kl));
      const [uniform32, calibrated, sameBytes] = modes.map(mean);
      expect(calibrated).toBeLessThan(0.6 * uniform32!);
      expect(sameBytes).toBeLessThan(0.6 * uniform32!);
      // Sparse reading is another computation: no divergence at all would mean it was not measured.
      expect(calibrated).toBeGreaterThan(0);
    },
    20 * minutes,
  );

  test(
    "the profile finds no fewer planted facts than uniform 32",
    async () => {
      const text = await needleHeldOutText(engine, contextTokens, 20, 1);
      const modes = [
        dense(engine),
        uniform(engine, 32, budgetTokens),
        profiled(engine, profile, budgetTokens),
      ];
      const answers = await askNeedles(engine, text, modes);
      const found = modes.map(({ name }) => foundBy(answers, name));
      console.log(modes.map(({ name }, index) => `${name}: ${found[index]} of 20`).join(", "));
      const [inDense, inUniform, inProfile] = found;
      expect(inDense).toBeGreaterThanOrEqual(10);
      expect(inProfile).toBeGreaterThanOrEqual(inUniform!);
      expect(inProfile).toBeGreaterThanOrEqual(inDense! - 2);
    },
    20 * minutes,
  );

  const measure = (text: HeldOutText, modes: ReadingMode[]) =>
    measureDivergence(engine, text, modes);
});
