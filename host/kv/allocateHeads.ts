/** Shares out the bytes that may be read per token: for each head one of several choices (block
 * size, budget), so that the sum of their errors is least. The multiple-choice knapsack, solved
 * exactly (Dudzinski and Walukiewicz 1987; joint block size and budget: our study, docs/). */

export interface Choice {
  blockTokens: number;
  budgetTokens: number;
  /** Bytes per decoded token. */
  bytes: number;
  error: number;
}

export interface Allocation {
  /** [heads] index of the choice of each head */
  chosen: number[];
  bytes: number;
  error: number;
}

/** The table of the dynamic programme may take this much. */
const maxTableBytes = 1 << 30;

/** @param choices [heads][choices], bytes whole and positive, errors finite
 * @param limitBytes what all heads together may read
 * @returns null when not even the cheapest choices fit.
 *
 * Time and space O(heads × limit / unit × choices), the unit being the greatest common divisor of
 * all costs. Of equal errors the cheaper choice is taken. */
export function allocateHeads(choices: Choice[][], limitBytes: number): Allocation | null {
  const kept = choices.map(undominated);
  const cheapest = kept.map((head) => Math.min(...head.map(({ choice }) => choice.bytes)));
  const room = limitBytes - sum(cheapest);
  if (choices.some((head) => head.length === 0) || room < 0) return null;

  // Costs above each head's cheapest choice: they make the table small.
  const extra = kept.map((head, h) => head.map(({ choice }) => choice.bytes - cheapest[h]!));
  const unit = extra.flat().reduce(greatestCommonDivisor, 0) || 1;
  const largest = sum(extra.map((head) => Math.max(...head)));
  const units = Math.floor(Math.min(room, largest) / unit);
  if ((units + 1) * choices.length > maxTableBytes) {
    throw new RangeError(
      `an allocation in ${units} units for ${choices.length} heads is too large`,
    );
  }

  // best[u]: least error of the heads so far within u units.
  let best = new Float64Array(units + 1);
  const taken = kept.map(() => new Uint8Array(units + 1));
  kept.forEach((head, h) => {
    const next = new Float64Array(units + 1).fill(Number.POSITIVE_INFINITY);
    head.forEach(({ choice }, c) => {
      const cost = extra[h]![c]! / unit;
      for (let u = cost; u <= units; u++) {
        const error = best[u - cost]! + choice.error;
        if (error < next[u]!) {
          next[u] = error;
          taken[h]![u] = c;
        }
      }
    });
    best = next;
  });

  // The cheapest of the best: what a choice does not need is not spent.
  let u = best.indexOf(best[units]!);
  const chosen: number[] = new Array(choices.length);
  for (let h = kept.length - 1; h >= 0; h--) {
    const c = taken[h]![u]!;
    chosen[h] = kept[h]![c]!.index;
    u -= extra[h]![c]! / unit;
  }
  const picked = chosen.map((index, h) => choices[h]![index]!);
  return {
    chosen,
    bytes: sum(picked.map((choice) => choice.bytes)),
    error: sum(picked.map((choice) => choice.error)),
  };
}

/** Choices that no other is as good as for fewer bytes, or better than for as many; by rising
 * bytes. */
function undominated(head: Choice[]): { choice: Choice; index: number }[] {
  const sorted = head
    .map((choice, index) => ({ choice, index }))
    .sort((a, b) => a.choice.bytes - b.choice.bytes || a.choice.error - b.choice.error);
  let least = Number.POSITIVE_INFINITY;
  return sorted.filter(({ choice }) => {
    if (!(choice.error < least)) return false;
    least = choice.error;
    return true;
  });
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
