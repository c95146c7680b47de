/** Where two answers begin to differ. */

/** @returns letters that both begin with, back to the last word's beginning, so that whole words are
 * marked; their common length when one begins with the other */
export function firstDifference(one: string, other: string): number {
  const shorter = Math.min(one.length, other.length);
  let at = 0;
  while (at < shorter && one[at] === other[at]) at++;
  if (at === one.length && at === other.length) return at;
  while (at > 0 && !/\s/.test(one[at - 1]!)) at--;
  return at;
}
