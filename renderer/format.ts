/** Numbers as people read them. Bytes are decimal (1 MB = 1,000,000 bytes), as file managers count. */

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const threeDigits = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const fullDate = new Intl.DateTimeFormat("en", { dateStyle: "long", timeStyle: "short" });

export const formatCount = (count: number): string => whole.format(count);

/** At most three digits that count, e.g. 0.0342, 36.6, 1,240. */
export const formatNumber = (value: number): string =>
  Math.abs(value) >= 1000 ? whole.format(value) : threeDigits.format(value);

const byteUnits = ["bytes", "kB", "MB", "GB", "TB"] as const;

export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // 999.5 of a unit would be shown as 1,000 of it.
  while (Math.abs(value) >= 999.5 && unit < byteUnits.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${threeDigits.format(value)} ${byteUnits[unit]}`;
}

export const formatPercent = (share: number): string => `${threeDigits.format(share * 100)} %`;

/** Tokens per second, without the unit. */
export const formatRate = (rate: number): string =>
  rate >= 100 ? whole.format(rate) : threeDigits.format(rate);

/** E.g. "0.42 s", "9 s", "3 min 20 s", "1 h 5 min". */
export function formatDuration(seconds: number): string {
  if (seconds < 10) return `${Number(seconds.toFixed(seconds < 1 ? 2 : 1))} s`;
  const rounded = Math.round(seconds);
  if (rounded < 60) return `${rounded} s`;
  const minutes = Math.floor(rounded / 60);
  if (minutes < 60) return joinUnits(minutes, "min", rounded % 60, "s");
  return joinUnits(Math.floor(minutes / 60), "h", minutes % 60, "min");
}

const joinUnits = (large: number, largeUnit: string, small: number, smallUnit: string): string =>
  small === 0 ? `${large} ${largeUnit}` : `${large} ${largeUnit} ${small} ${smallUnit}`;

const relativeSteps = [
  { unit: "minute", seconds: 60 },
  { unit: "hour", seconds: 3600 },
  { unit: "day", seconds: 86_400 },
  { unit: "week", seconds: 604_800 },
  { unit: "month", seconds: 2_629_800 },
  { unit: "year", seconds: 31_557_600 },
] as const;

/** How long ago, e.g. "3 hours ago"; "now" within the minute.
 * @param iso ISO 8601 */
export function formatAgo(iso: string, now = Date.now()): string {
  const seconds = (now - Date.parse(iso)) / 1000;
  if (!(seconds >= 60)) return "now";
  const step = relativeSteps.findLast(({ seconds: size }) => seconds >= size) ?? relativeSteps[0];
  return relative.format(-Math.floor(seconds / step.seconds), step.unit);
}

export const formatDate = (iso: string): string => fullDate.format(new Date(iso));

/** A list of numbers as ranges, e.g. "1-3, 7". The numbers ascend. */
export function formatRanges(numbers: readonly number[]): string {
  const ranges: [number, number][] = [];
  for (const number of numbers) {
    const last = ranges.at(-1);
    if (last !== undefined && last[1] === number - 1) last[1] = number;
    else ranges.push([number, number]);
  }
  return ranges
    .map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`))
    .join(", ");
}
