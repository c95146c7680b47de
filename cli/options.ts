/** Options that several commands share, and how their values are read. */
import { resolve } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import { modes } from "../contract/answer.ts";
import { type Budget, budgetSchema, leastShareTokens } from "../contract/budget.ts";
import { type DigestBits, digestBits } from "../contract/heads.ts";
import { devices, type EngineSettings } from "../contract/routes.ts";

export { dataDir } from "../host/store/dataDir.ts";

export interface EngineOptions {
  model?: string;
  profile?: string;
  device: "auto" | "cpu" | "cuda";
  threads: number;
  data?: string;
  json?: boolean;
  verbose?: boolean;
}

export interface AnswerOptions extends EngineOptions {
  pages?: string;
  mode: "ab-sparse" | "dense";
  budget?: number;
  seed: number;
  temperature: number;
  maxTokens: number;
}

export function addEngineOptions(command: Command): Command {
  return addDataOptions(command)
    .option("--model <id|file>", "a model of the catalog, or a GGUF file (default: the best here)")
    .option("--profile <file>", 'a head profile, or "uniform" (default: the model\'s own)')
    .addOption(
      new Option("--device <device>", "where to run").choices([...devices]).default("auto"),
    )
    .option("--threads <n>", "processor threads; 0: one per core", wholeNumber(0, 1024), 0);
}

export function addDataOptions(command: Command): Command {
  return command
    .option(
      "--data <dir>",
      "where reads and chats are kept (default: $SCHOLIA_DATA or the XDG data folder)",
    )
    .option("--json", "print one JSON value on standard output")
    .option("--verbose", "show what the engine and its libraries log");
}

export function addAnswerOptions(command: Command): Command {
  return addEngineOptions(command)
    .option("--pages <ranges>", "read only these pages, e.g. 1-20,25")
    .addOption(
      new Option("--mode <mode>", "which tokens a decode step reads")
        .choices([...modes])
        .default("ab-sparse"),
    )
    .option(
      "--budget <tokens>",
      "tokens read per step and head, on average (default: the profile's)",
      wholeNumber(1),
    )
    .option("--seed <n>", "seed of the sampling", wholeNumber(0, 0xffff_ffff), 0)
    .option("--temperature <t>", "0: always the likeliest token", decimal(0, 10), 0)
    .option("--max-tokens <n>", "room for the answer", wholeNumber(1, 1_048_576), 512);
}

export function engineSettings(options: EngineOptions): EngineSettings {
  const { model, profile, device, threads } = options;
  return {
    device,
    threads,
    ...(model === undefined ? {} : { model }),
    ...(profile === undefined
      ? {}
      : { profile: profile === "uniform" ? profile : resolve(profile) }),
  };
}

export function answerSettings(options: AnswerOptions) {
  return {
    ...engineSettings(options),
    ...(options.pages === undefined ? {} : { pages: options.pages }),
    mode: options.mode,
    budgetTokens: options.budget ?? null,
    seed: options.seed,
    temperature: options.temperature,
    maxTokens: options.maxTokens,
  };
}

/** A whole number, thousands marks allowed: 2048 or 2,048. */
export function wholeNumber(least: number, most = Number.MAX_SAFE_INTEGER) {
  return (text: string): number => {
    const plain = /^\d{1,3}(,\d{3})+$/.test(text) ? text.replaceAll(",", "") : text;
    const value = /^\d{1,15}$/.test(plain) ? Number(plain) : Number.NaN;
    if (!(value >= least && value <= most)) {
      const range =
        most === Number.MAX_SAFE_INTEGER ? `from ${least} on` : `from ${least} to ${most}`;
      throw new InvalidArgumentError(`A whole number ${range} is expected.`);
    }
    return value;
  };
}

export function decimal(least: number, most: number) {
  return (text: string): number => {
    const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= least && value <= most)) {
      throw new InvalidArgumentError(`A number from ${least} to ${most} is expected.`);
    }
    return value;
  };
}

/** Several whole numbers: 512,8192. */
export function wholeNumbers(least: number) {
  return (text: string): number[] => {
    const one = wholeNumber(least);
    const values = text.split(",").map((part) => one(part.trim()));
    return [...new Set(values)];
  };
}

/** Bits of a digest's numbers: 4,16. */
export function digestBitsOf(text: string): DigestBits[] {
  const bits = wholeNumbers(2)(text);
  const isKnown = (value: number): value is DigestBits =>
    (digestBits as readonly number[]).includes(value);
  if (bits.every(isKnown)) return bits;
  throw new InvalidArgumentError(`${digestBits.join(", ")} are expected, not "${text}".`);
}

/** Budgets in tokens, or in percent of the context: 512,8%. */
export function budgetsOf(text: string): Budget[] {
  return text.split(",").map((part) => {
    const [, number, percent] = /^\s*(\d+(?:\.\d+)?)(%?)\s*$/.exec(part) ?? [];
    const budget =
      percent === "%"
        ? { tokens: leastShareTokens, percent: Number(number) }
        : { tokens: Number(number), percent: 0 };
    const parsed = budgetSchema.safeParse(budget);
    if (parsed.success) return parsed.data;
    throw new InvalidArgumentError(`Tokens from 256 on, or a share such as 8%, not "${part}".`);
  });
}

/** One of a few words. */
export function wordOf<Word extends string>(words: readonly Word[]) {
  return (text: string): Word => {
    const [word, ...others] = wordsOf(words)(text);
    if (word !== undefined && others.length === 0) return word;
    throw new InvalidArgumentError(`One of ${words.join(", ")} is expected, not "${text}".`);
  };
}

/** Several of a few words: dense,ab-sparse. */
export function wordsOf<Word extends string>(words: readonly Word[]) {
  return (text: string): Word[] => {
    const parts = text.split(",").map((part) => part.trim());
    const wrong = parts.find((part) => !(words as readonly string[]).includes(part));
    if (wrong !== undefined) {
      throw new InvalidArgumentError(`${words.join(" or ")} are expected, not "${wrong}".`);
    }
    return [...new Set(parts as Word[])];
  };
}
