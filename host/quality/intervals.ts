/** Intervals: how much a mean would move on other samples of the same kind; by the bootstrap unless said. */
import { randomNumbers } from "../tokens/madeUpText.ts";

export interface Interval {
  value: number;
  /** 95 % of the resamples lie between. */
  low: number;
  high: number;
}

const resamples = 2000;

/** The mean of differences of one sample read in two ways; whole groups (questions about one document,
 * say) are drawn together, since they are not independent. */
export function pairedInterval(groups: readonly (readonly number[])[], seed: number): Interval {
  return bootstrap(groups.length, seed, (drawn) => mean(drawn.flatMap((index) => groups[index]!)));
}

/** The mean over strata (tasks, say) of what {@link pairedInterval} gives of each: every one counts alike,
 * however many samples it has. */
export function stratifiedInterval(
  strata: readonly (readonly (readonly number[])[])[],
  seed: number,
): Interval {
  const random = randomNumbers(seed);
  const drawn = (groups: readonly (readonly number[])[]) =>
    groups.map(() => groups[Math.floor(random() * groups.length)]!);
  const values = Array.from({ length: resamples }, () =>
    mean(strata.map((groups) => mean(drawn(groups).flat()))),
  );
  return { value: mean(strata.map((groups) => mean(groups.flat()))), ...middle(values) };
}

/** The ratio of two geometric means over texts, of quantities that were measured at the same positions:
 * runs of neighbouring positions are drawn together, for both alike.
 * @param ours, theirs [texts][positions] */
export function ratioInterval(
  ours: readonly (readonly number[])[],
  theirs: readonly (readonly number[])[],
  seed: number,
): Interval {
  const texts = ours.map((text, index) => ({
    ours: runSums(text),
    theirs: runSums(theirs[index]!),
  }));
  const ratio = (pick: (runs: number[], text: number) => number) =>
    Math.exp(
      mean(texts.map(({ ours, theirs }, text) => Math.log(pick(ours, text) / pick(theirs, text)))),
    );
  const random = randomNumbers(seed);
  const values: number[] = [];
  for (let i = 0; i < resamples; i++) {
    const drawn = texts.map(({ ours }) => ours.map(() => Math.floor(random() * ours.length)));
    values.push(ratio((runs, text) => sum(drawn[text]!.map((index) => runs[index]!))));
  }
  return { value: ratio((runs) => sum(runs)), ...middle(values) };
}

/** The mean over all positions of texts; runs of neighbouring positions are drawn together.
 * @param values [texts][positions] */
export function meanInterval(values: readonly (readonly number[])[], seed: number): Interval {
  return pairedInterval(values.flatMap(runsOf), seed);
}

/** Of a share: Wilson's interval, which stays sensible where all or none hit. */
export function shareInterval(hits: number, of: number): Interval {
  const z = 1.96;
  const share = hits / of;
  const spread = z * Math.sqrt((share * (1 - share)) / of + z ** 2 / (4 * of ** 2));
  const middle = share + z ** 2 / (2 * of);
  const scale = 1 + z ** 2 / of;
  return { value: share, low: (middle - spread) / scale, high: (middle + spread) / scale };
}

/** Tokens near each other share what was read for them. */
const runTokens = 32;

function runsOf(values: readonly number[]): number[][] {
  const runs: number[][] = [];
  for (let at = 0; at < values.length; at += runTokens) runs.push(values.slice(at, at + runTokens));
  return runs;
}

const runSums = (values: readonly number[]): number[] => runsOf(values).map(sum);

function bootstrap(count: number, seed: number, statistic: (drawn: number[]) => number): Interval {
  const all = Array.from({ length: count }, (_, index) => index);
  const random = randomNumbers(seed);
  const values = Array.from({ length: resamples }, () =>
    statistic(all.map(() => Math.floor(random() * count))),
  );
  return { value: statistic(all), ...middle(values) };
}

function middle(values: number[]): { low: number; high: number } {
  const sorted = values.sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))]!;
  return { low: at(0.025), high: at(0.975) };
}

const sum = (values: readonly number[]): number =>
  values.reduce((total, value) => total + value, 0);
const mean = (values: readonly number[]): number => sum(values) / Math.max(1, values.length);
