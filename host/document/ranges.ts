/** Ranges of pages as words. */

/** Page numbers in rising order as `--pages` takes them: `1-20,25`. After `most` ranges the rest is
 * given as a count of pages. */
export function formatRanges(numbers: number[], most = Number.POSITIVE_INFINITY): string {
  const ranges: [number, number][] = [];
  for (const number of numbers) {
    const last = ranges.at(-1);
    if (last && last[1] === number - 1) last[1] = number;
    else ranges.push([number, number]);
  }
  const words = ranges.slice(0, most).map(([a, b]) => (a === b ? `${a}` : `${a}-${b}`));
  const more = ranges.slice(most).reduce((sum, [a, b]) => sum + b - a + 1, 0);
  return words.join(",") + (more > 0 ? ` and ${more} more` : "");
}
