// Measures how close AB-Sparse reading stays to dense reading, on texts that no shipped profile has
// seen: `npm run quality -- --model smollm2-135m`. What the numbers mean: docs/quality.md.
import { parseArgs } from "node:util";
import { Engine } from "../../host/engine/engine.ts";
import {
  findHeadProfile,
  type HeadProfile,
  loadHeadProfile,
  shippedProfilesDir,
} from "../../host/models/headProfile.ts";
import { modelFile } from "../../host/models/modelFile.ts";
import {
  type Divergence,
  geometricMean,
  type HeldOutText,
  measureDivergence,
  middleOfTail,
} from "../../host/quality/divergence.ts";
import {
  dense,
  profiled,
  profiledAtEqualBytes,
  type ReadingMode,
  uniform,
} from "../../host/quality/readingModes.ts";
import { askNeedles, foundBy, type NeedleAnswer } from "./needles.ts";
import { needleHeldOutText, plainHeldOutTexts, retrievalHeldOutTexts } from "./texts.ts";

const { values: options } = parseArgs({
  options: {
    model: { type: "string" },
    profile: { type: "string" },
    context: { type: "string" },
    budget: { type: "string", default: "1024" },
    tail: { type: "string", default: "256" },
    needles: { type: "string", default: "20" },
    seed: { type: "string", default: "1" },
    threads: { type: "string", default: "0" },
    what: { type: "string", default: "divergence,needles" },
    store: { type: "string" },
    json: { type: "boolean", default: false },
  },
});

const started = performance.now();
const say = (text: string) =>
  process.stderr.write(`${((performance.now() - started) / 1000).toFixed(0)} s: ${text}\n`);

const { path } = await modelFile(options.model, { fetch: false });
const engine = await Engine.open({
  modelPath: path,
  threads: Number(options.threads),
  storeDir: options.store,
});
try {
  const profile = await profileOf(engine);
  const contextTokens =
    Number(options.context ?? profile?.reference.contextTokens) ||
    Math.floor((engine.model.contextTokens * 3) / 4);
  const wanted = options.what.split(",");
  const report = {
    model: engine.model.name,
    device: engine.device,
    profile: profile?.name ?? null,
    contextTokens,
    budgetTokens: Number(options.budget),
    divergence: wanted.includes("divergence") ? await divergences(contextTokens, profile) : [],
    needles: wanted.includes("needles") ? await needles(contextTokens, profile) : [],
  };
  process.stdout.write(options.json ? `${JSON.stringify(report, null, 2)}\n` : asTables(report));
} finally {
  await engine.close();
}

async function profileOf({ model }: Engine): Promise<HeadProfile | null> {
  if (options.profile !== undefined) return loadHeadProfile(options.profile);
  return (await findHeadProfile(model.fingerprint, [shippedProfilesDir()])).profile;
}

async function divergences(
  contextTokens: number,
  profile: HeadProfile | null,
): Promise<Divergence[]> {
  const texts = [
    ...(await plainHeldOutTexts(engine, contextTokens, Number(options.tail))),
    ...(await retrievalHeldOutTexts(engine, contextTokens)),
  ];
  const rows: Divergence[] = [];
  for (const text of texts) {
    const onProgress = (what: string) =>
      say(`${text.name} (${text.tokens.length} tokens): ${what}`);
    const modes = sparseModes(text, profile);
    rows.push(...(await measureDivergence(engine, text, modes, { onProgress })));
  }
  return rows;
}

function sparseModes(text: HeldOutText, profile: HeadProfile | null): ReadingMode[] {
  const budget = Number(options.budget);
  const uniforms = [uniform(engine, 32, budget), uniform(engine, 16, budget)];
  if (profile === null) return uniforms;
  const sameBytes = profiledAtEqualBytes(engine, profile, budget, middleOfTail(text));
  return [...uniforms, profiled(engine, profile, budget), sameBytes];
}

async function needles(
  contextTokens: number,
  profile: HeadProfile | null,
): Promise<NeedleAnswer[]> {
  const budget = Number(options.budget);
  const modes = [dense(engine), uniform(engine, 32, budget)];
  if (profile !== null) modes.push(profiled(engine, profile, budget));
  const text = await needleHeldOutText(
    engine,
    contextTokens,
    Number(options.needles),
    Number(options.seed),
  );
  const done = (what: string) => say(`needles (${text.document.length} tokens): ${what}`);
  return askNeedles(engine, text, modes, done);
}

function asTables(report: {
  model: string;
  device: string;
  contextTokens: number;
  budgetTokens: number;
  divergence: Divergence[];
  needles: NeedleAnswer[];
}): string {
  const { model, device, contextTokens, budgetTokens } = report;
  return [
    `${model} on ${device}; ${contextTokens} tokens of context, budget ${budgetTokens}.`,
    ...divergenceTable(report.divergence),
    ...needleTable(report.needles),
    "",
  ].join("\n");
}

function divergenceTable(rows: Divergence[]): string[] {
  if (rows.length === 0) return [];
  const modes = [...new Set(rows.map(({ mode }) => mode))];
  const texts = [...new Set(rows.map(({ text }) => text))];
  const of = (text: string, mode: string) =>
    rows.find((row) => row.text === text && row.mode === mode)!;
  const line = (cells: string[]) => `| ${cells.join(" | ")} |`;
  const means = modes.map((mode) => geometricMean(texts.map((text) => of(text, mode).kl)));
  return [
    "",
    line(["KL against dense, nats per token", ...modes]),
    line(["---", ...modes.map(() => "---")]),
    ...texts.map((text) => line([text, ...modes.map((mode) => of(text, mode).kl.toFixed(4))])),
    line(["geometric mean", ...means.map((mean) => mean.toFixed(4))]),
    line(["of uniform 32's", ...means.map((mean) => (mean / means[0]!).toFixed(2))]),
    line([
      "same top token",
      ...modes.map((mode) => {
        const shares = texts.map((text) => of(text, mode).sameTopToken);
        return `${((100 * shares.reduce((a, b) => a + b)) / shares.length).toFixed(1)} %`;
      }),
    ]),
    line([
      "MB read per token",
      ...modes.map((mode) => {
        const bytes = texts.map((text) => of(text, mode).bytesPerToken);
        return (bytes.reduce((a, b) => a + b) / bytes.length / 1e6).toFixed(2);
      }),
    ]),
  ];
}

function needleTable(rows: NeedleAnswer[]): string[] {
  if (rows.length === 0) return [];
  const modes = [...new Set(rows[0]!.answers.map(({ mode }) => mode))];
  return (["freely", "begun"] as const).map((asked) => {
    const found = modes.map((mode) => `${mode} ${foundBy(rows, mode, asked)}`).join(", ");
    const how = asked === "begun" ? "with the answer begun" : "asked freely";
    return `\nOf ${rows.length} facts found, ${how}: ${found}.`;
  });
}
