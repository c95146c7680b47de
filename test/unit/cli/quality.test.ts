import { describe, expect, test } from "vitest";
import { qualityText } from "../../../cli/commands/quality.ts";
import type { DivergenceRow, QualityReport } from "../../../contract/quality.ts";

const exactly = (value: number) => ({ value, low: value * 0.9, high: value * 1.1 });
const row = (mode: string, kind: DivergenceRow["kind"], kl: number, bytesPerToken: number) => ({
  ...{ text: kind, kind, mode, kl, bytesPerToken },
  ...{
    budgetTokens: 1024,
    positions: 256,
    sameTopToken: 0.9,
    lossIncrease: 0,
    blocksPerToken: 100,
    denseBytesPerToken: 100e6,
    klByPosition: [kl],
  },
});

/** Modes by name: divergence on both kinds of text, bytes per token. */
function reportOf(modes: Record<string, { kl: number; bytes: number; holds: boolean }>) {
  const entries = Object.entries(modes);
  return {
    ...{ model: "A model", device: "cpu", profile: "it", contextTokens: 6144, budgetTokens: 1024 },
    seed: 1,
    modes: entries.map(([mode]) => mode),
    equalBytes: [] as string[],
    divergence: entries.flatMap(([mode, { kl, bytes }]) => [
      row(mode, "given", kl, bytes),
      row(mode, "retrieval", 2 * kl, bytes),
    ]),
    klOfUniform32: entries.map(([mode, { kl }]) => ({ mode, ratio: exactly(kl) })),
    klOfQuest: [] as QualityReport["klOfQuest"],
    bar: entries.map(([mode, { kl, holds }]) => ({
      mode,
      kl: { given: exactly(kl), retrieval: exactly(2 * kl) },
      holds,
    })),
    stored: null,
    tasks: [],
    taskLessDense: [],
    scoreLessDense: [],
    citations: [],
    citationShares: [],
  } satisfies QualityReport;
}

describe("the report of scholia quality", () => {
  test("names the mode that reads least among those that hold the bar", () => {
    const text = qualityText(
      reportOf({
        "uniform 32": { kl: 0.1, bytes: 10e6, holds: false },
        "profile, 2,048": { kl: 0.005, bytes: 20e6, holds: true },
        "profile, 8 %": { kl: 0.01, bytes: 15e6, holds: true },
      }),
    );
    expect(text).toContain("| below 0.02 and 0.05 | no | yes | yes |");
    expect(text).toContain("| of what dense reading reads | 10.0 % | 20.0 % | 15.0 % |");
    expect(text).toContain("| mean with facts asked (95 %) | 0.200 (0.180 to 0.220) |");
    expect(text).toMatch(
      /^The cheapest that stays below 0\.02 .*: profile, 8 %, 15\.0 MB per token\.$/m,
    );
  });

  test("compares with Quest where that was measured", () => {
    const modes = { "uniform 32": { kl: 0.1, bytes: 10e6, holds: false } };
    expect(qualityText(reportOf(modes))).not.toContain("Quest");
    const klOfQuest = [{ mode: "uniform 32", ratio: exactly(0.5) }];
    expect(qualityText({ ...reportOf(modes), klOfQuest })).toContain(
      "| of Quest's (95 %) | 0.500 (0.450 to 0.550) |",
    );
  });

  test("says which modes could not read the bytes of uniform 32", () => {
    const report = reportOf({
      "uniform 32": { kl: 0.1, bytes: 3.35e6, holds: false },
      "profile, same bytes": { kl: 0.05, bytes: 3.72e6, holds: false },
      "quest INT4": { kl: 0.2, bytes: 3.36e6, holds: false },
    });
    expect(qualityText(report)).not.toContain("Not at the bytes");
    expect(qualityText({ ...report, equalBytes: ["profile, same bytes", "quest INT4"] })).toContain(
      "Not at the bytes of uniform 32, 3.35 MB per token: profile, same bytes, 3.72 MB. No head",
    );
  });

  test("says that none does", () => {
    const text = qualityText(reportOf({ "uniform 32": { kl: 0.1, bytes: 10e6, holds: false } }));
    expect(text).toContain("None of them stays below 0.02 nats per token");
  });

  test("counts citations among the answers that are right", () => {
    const answer = (isRight: boolean) => ({
      ...{ text: "a", question: "?", answer: "!", isRight },
      cited: { quotation: null, retrieval: isRight, "all heads": isRight },
    });
    const text = qualityText({
      ...reportOf({}),
      divergence: [],
      citations: [answer(true), answer(true), answer(false)],
      citationShares: [
        {
          ...{ way: "retrieval", right: 2, cited: 2, holding: 1 },
          share: { value: 0.5, low: 0.095, high: 0.905 },
        },
      ],
    });
    expect(text).toContain("2 of 3 answers name the planted fact.");
    expect(text).toContain("| retrieval | 2 | 1 | 50.0 % (9.5 % to 90.5 %) |");
  });
});
