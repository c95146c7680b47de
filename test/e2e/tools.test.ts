import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { type Answer, answerSchema } from "../../contract/answer.ts";
import { benchRowSchema } from "../../contract/bench.ts";
import type { CalibrationReport, HeadTable } from "../../contract/heads.ts";
import type { QualityReport } from "../../contract/quality.ts";
import type { CheckLine, ModelLine } from "../../contract/routes.ts";
import { parseHeadProfile } from "../../host/models/headProfile.ts";
import { textWith } from "./madeUpDocuments.ts";
import { small, until, usePlace } from "./scholia.ts";

const place = usePlace();

describe("scholia calibrate", () => {
  let texts: string[];
  const calibrate = async (...options: string[]) =>
    (await place.json([
      "calibrate",
      "smollm2-135m",
      "--texts",
      ...texts,
      "--context",
      "2048",
      "--budget",
      "512",
      "--threads",
      "1",
      // Influence takes a minute for a text: it has a test below, for npm run test:full.
      "--objective",
      "error",
      ...options,
    ])) as CalibrationReport;

  beforeAll(async () => {
    texts = [
      await place.write("one.txt", textWith([], 3000, 21)),
      await place.write("short.txt", textWith([], 50, 23)),
    ];
  });

  test("measures the heads and writes a profile that is better at the same bytes", async () => {
    const report = await calibrate();
    expect(report.texts.map(({ kind }) => kind)).toEqual(["given", "retrieval"]);
    expect(report.texts.every(({ reused }) => !reused)).toBe(true);
    expect(report.bytesPerToken).toBeLessThanOrEqual(report.uniformBytesPerToken);
    expect(report.outputError).toBeLessThan(report.uniformOutputError);
    expect(report.table).toMatchObject({ calibrated: true, layers: 30, kvHeads: 3 });
    expect(report.table.heads).toHaveLength(90);
    const shares = report.table.heads.map(({ budgetShare }) => budgetShare);
    expect(shares.reduce((sum, share) => sum + share, 0) / 90).toBeCloseTo(1, 9);
    expect(new Set(report.table.heads.map(({ blockTokens }) => blockTokens)).size).toBeGreaterThan(
      1,
    );
    const profile = parseHeadProfile(await readFile(report.path, "utf8"), report.path);
    expect(profile.reference).toEqual({ contextTokens: 2048, budgetTokens: 512 });
    expect(profile.texts).toHaveLength(2);
    expect(report.agreement).toMatchObject([{ one: "as they are", other: "facts asked" }]);
    expect(report.agreement[0]!.errors).toBeGreaterThan(0.3);
  });

  test("does not measure again what it has measured, and comes to the same", async () => {
    const output = join(place.folder, "again.json");
    const report = await calibrate("--output", output);
    expect(report.texts.every(({ reused }) => reused)).toBe(true);
    expect(report.path).toBe(output);
    const own = await calibrate();
    expect(await readFile(output, "utf8")).toBe(await readFile(own.path, "utf8"));
  });

  test.runIf(process.env.SCHOLIA_TEST_FULL)(
    "weighs the heads by their influence on the next token, as it does by default",
    { timeout: 900_000 },
    async () => {
      const byError = await calibrate();
      const output = join(place.folder, "influence.json");
      const report = await calibrate("--objective", "influence", "--output", output);
      expect(report.texts.every(({ reused }) => reused)).toBe(true);
      expect(report.bytesPerToken).toBeLessThanOrEqual(report.uniformBytesPerToken);
      expect(report.outputError).toBeGreaterThan(byError.outputError);
      const { measured } = parseHeadProfile(await readFile(output, "utf8"), output);
      const influence = measured.influence!.flat();
      expect(influence.reduce((sum, value) => sum + value, 0) / 90).toBeCloseTo(1, 2);
      expect(Math.max(...influence) / Math.min(...influence)).toBeGreaterThan(2);
    },
  );

  test("measures alone how the heads retrieve, and leaves the rest as it was", async () => {
    const whole = await calibrate();
    const before = parseHeadProfile(await readFile(whole.path, "utf8"), whole.path);
    expect(Math.max(...before.measured.retrieval!.score.flat())).toBeGreaterThan(0.2);
    const output = join(place.folder, "retrieval.json");
    const report = await calibrate("--retrieval-only", "--output", output);
    expect(report.texts.map(({ kind }) => kind)).toEqual(["retrieval"]);
    expect(parseHeadProfile(await readFile(output, "utf8"), output)).toEqual(before);
  });

  test("gives the profile that heads shows and answers use", async () => {
    const table = (await place.json(["heads", ...small])) as HeadTable;
    expect(table.calibrated).toBe(true);
    expect(table.heads[0]!.outputError).toBeGreaterThanOrEqual(0);
    const ask = async (...options: string[]): Promise<Answer> =>
      answerSchema.parse(
        await place.json([
          "ask",
          texts[0]!,
          "What is this about?",
          ...small,
          "--budget",
          "512",
          "--max-tokens",
          "8",
          ...options,
        ]),
      );
    const own = await ask();
    expect(own.coverage.profile).toBe(table.profile);
    const uniform = await ask("--profile", "uniform");
    expect(uniform.coverage.profile).toBe("uniform 32");
    expect(uniform.timing.cachedTokens).toBeGreaterThan(uniform.coverage.documentTokens);
    expect(uniform.coverage.kvBytesPerToken / own.coverage.kvBytesPerToken).toBeCloseTo(1, 1);
    const people = await place.run(["heads", ...small]);
    expect(people.out).toMatch(/layer +KV head +block +budget share +error +recall +sensitivity/);
    expect(people.out.split("\n").length).toBeGreaterThan(92);
    const folder = join(place.folder, "report");
    const written = await place.run(["heads", ...small, "--report", folder]);
    expect(written.out).toBe(`Wrote ${join(folder, "heads.md")}\n`);
    const page = await readFile(join(folder, "heads.md"), "utf8");
    for (const [, chart] of page.matchAll(/\]\((\w+\.svg)\)/g))
      expect(await readFile(join(folder, chart!), "utf8")).toContain("</svg>");
  });

  test("refuses a profile of another model, and one that is none", async () => {
    const { path } = await calibrate();
    const profile = JSON.parse(await readFile(path, "utf8"));
    profile.model.fingerprint = "00".repeat(32);
    const other = await place.write("other.json", JSON.stringify(profile));
    const mismatch = await place.run(["ask", texts[0]!, "What?", ...small, "--profile", other]);
    expect(mismatch.code).toBe(1);
    expect(mismatch.err).toContain("error (profile_mismatch)");
    const broken = await place.write("broken.json", JSON.stringify(profile).slice(0, 500));
    const refused = await place.run(["heads", ...small, "--profile", broken]);
    expect(refused.code).toBe(1);
    expect(refused.err).toContain("error (profile_broken)");
  });

  test("says which texts are too short", async () => {
    const { code, err } = await place.run([
      "calibrate",
      "smollm2-135m",
      "--texts",
      texts[1]!,
      "--threads",
      "1",
    ]);
    expect(code).toBe(1);
    expect(err).toMatch(/short\.txt has fewer than 2048 tokens and is left out/);
    expect(err).toMatch(/error \(invalid_argument\): No text is long enough/);
  });
});

describe("scholia quality", () => {
  test("a budget that covers the context answers as dense reading does; answers are kept", async () => {
    const text = await place.write("held-out.txt", textWith([], 1200, 77));
    const measure = () =>
      place.run([
        ...["quality", ...small.slice(1), "--json"],
        ...["--texts", text, "--context", "1024", "--budget", "1024", "--what", "tasks"],
        ...["--tasks", "single_1,frequent_words", "--samples", "1", "--shuffles", "0"],
      ]);
    const first = await measure();
    const again = await measure();
    expect(first.err).toContain("single_1 1,");
    expect(again.err).not.toContain("single_1 1,");
    expect(JSON.parse(again.out)).toEqual(JSON.parse(first.out));
    const report = JSON.parse(first.out) as QualityReport;
    expect(report.modes).toEqual(["uniform 32", "uniform 16", "profile", "profile, same bytes"]);
    const answers = (mode: string) =>
      report.tasks.filter((row) => row.mode === mode).map(({ text, score }) => [text, score]);
    expect(answers("dense")).toHaveLength(2);
    expect(answers("dense")[0]![1]).toBe(1);
    for (const mode of ["uniform 32", "uniform 16"]) {
      expect(answers(mode)).toEqual(answers("dense"));
      // Where all is read no digest need rank it.
      for (const row of report.tasks.filter((row) => row.mode === mode))
        expect(row.bytesPerToken).toBe(row.denseBytesPerToken);
    }
    expect(report.scoreLessDense.map(({ difference }) => difference.value).slice(0, 2)).toEqual([
      0, 0,
    ]);
  });

  test("keeps what it compared, and stores the cheapest budget that holds the bar", async () => {
    const text = await place.write("budgets.txt", textWith([], 1200, 79));
    const profile = join(place.folder, "with-budget.json");
    const measure = () =>
      place.run([
        ...["quality", ...small.slice(1), "--json", "--texts", text, "--what", "divergence"],
        ...["--context", "1024", "--tail", "16", "--budgets", "2048,4096", "--store", profile],
      ]);
    const first = await measure();
    const again = await measure();
    expect(first.err).toContain("budgets.txt: read");
    expect(again.err).not.toContain("budgets.txt: read");
    expect(JSON.parse(again.out)).toEqual(JSON.parse(first.out));
    const { stored } = JSON.parse(first.out) as QualityReport;
    // Both read all of the context; the first of the equally cheap ones is taken.
    expect(stored?.defaultBudget.budget).toEqual({ tokens: 2048, percent: 0 });
    expect(stored?.defaultBudget.measured?.kl.given.value).toBe(0);
    const { defaultBudget } = parseHeadProfile(await readFile(profile, "utf8"), profile);
    expect(defaultBudget).toEqual(stored?.defaultBudget);
  });

  test("stops within a tail on Ctrl+C", async () => {
    const text = await place.write("tail.txt", textWith([], 1200, 78));
    const running = place.start([
      ...["quality", ...small.slice(1), "--texts", text, "--what", "divergence"],
      ...["--context", "1024", "--budget", "256", "--tail", "256"],
      ...["--digests", "quest,mean,centroids", "--bits", "2,4,16", "--same", "tokens"],
    ]);
    await until(() => (running.err().includes("tail.txt: read") ? true : undefined));
    running.signal("SIGINT");
    const { code, err } = await running.finished;
    expect(code).toBe(130);
    expect(err).not.toContain("positions");
  });

  test("refuses a text that is too short for its tail", async () => {
    const text = await place.write("short.txt", "Too short.");
    const { code, err } = await place.run(["quality", ...small.slice(1), "--texts", text]);
    expect(code).toBe(1);
    expect(err).toContain("short.txt has fewer than 512 tokens");
  });
});

describe("scholia bench", () => {
  test("gives a row for each depth and mode, beside libllama", async () => {
    const value = await place.json([
      "bench",
      ...small,
      "--depths",
      "256,1024",
      "--budget",
      "512",
      "--repetitions",
      "1",
      "--decode-tokens",
      "4",
      "--peer",
    ]);
    const rows = z.array(benchRowSchema).parse(value);
    expect(rows.map(({ what, mode, depth }) => `${what} ${mode} ${depth}`).sort()).toEqual([
      "decode ab-sparse 1024",
      "decode ab-sparse 256",
      "decode dense 1024",
      "decode dense 256",
      "prefill dense 1024",
      "prefill dense 256",
    ]);
    for (const row of rows) {
      expect(row.ratio).toBeCloseTo(row.tokensPerSecond / row.peerTokensPerSecond!, 6);
      expect(row.repetitions).toBe(1);
    }
    const bytes = (mode: string) =>
      rows.find((row) => row.what === "decode" && row.depth === 1024 && row.mode === mode)!
        .bytesPerToken!;
    expect(bytes("ab-sparse")).toBeLessThan(bytes("dense") * 0.7);
  });

  test("refuses depths that the model does not hold", async () => {
    const { code, err } = await place.run(["bench", ...small, "--depths", "8192"]);
    expect(code).toBe(1);
    expect(err).toContain("error (context_exceeded)");
  });
});

describe("scholia models and doctor", () => {
  test("list what is here", async () => {
    const models = (await place.json(["models", "list"])) as ModelLine[];
    expect(models.find(({ id }) => id === "smollm2-135m")).toMatchObject({ state: "ready" });
    expect(models.filter(({ isDefault }) => isDefault)).toHaveLength(1);
    const { out, code } = await place.run(["models", "get", "smollm2-135m"]);
    expect(code).toBe(0);
    expect(out.trim()).toMatch(/smollm2-135m\.gguf$/);
    const unknown = await place.run(["models", "get", "no-such-model"]);
    expect(unknown.err).toContain("error (model_unknown)");
    expect(unknown.code).toBe(1);
  });

  test("say what works, and for what fails the remedy", async () => {
    const lines = (await place.json(["doctor", ...small])) as CheckLine[];
    const names = lines.map(({ name }) => name);
    for (const name of [
      "Node",
      "Native engine",
      "Libraries",
      "Memory",
      "Data folder",
      "Model",
      "Engine",
      "CUDA",
    ]) {
      expect(names).toContain(name);
    }
    expect(lines.every(({ state }) => state !== "fails")).toBe(true);
    expect(lines.find(({ name }) => name === "Engine")!.detail).toMatch(/on cpu/);
    const broken = await place.write("broken.gguf", "GGUF, but not really");
    const { code, out } = await place.run(["doctor", "--model", broken, "--json"]);
    expect(code).toBe(1);
    const failing = (JSON.parse(out) as CheckLine[]).filter(({ state }) => state === "fails");
    expect(failing.length).toBeGreaterThan(0);
    for (const line of failing) expect(line.remedy).toBeTruthy();
  });

  test("name a damaged profile among one's own", async () => {
    await writeFile(join(place.data, "profiles", "zzz.json"), "{}");
    const { out } = await place.run([
      "doctor",
      ...small,
      "--profile",
      join(place.data, "profiles", "zzz.json"),
      "--json",
    ]);
    const line = (JSON.parse(out) as CheckLine[]).find(({ name }) => name === "Head profile");
    expect(line).toMatchObject({ state: "fails" });
  });
});
