/** Names and values that no text holds, drawn from a stream of random numbers in [0, 1). */

const qualities =
  "amber brittle calm damp eager faint gentle hollow idle jagged keen lofty mellow narrow oaken pale quiet rustic silent tidy upright vivid woven young".split(
    " ",
  );
const things =
  "anchor barrel candle dagger easel feather goblet hammer icicle jacket kettle lantern mirror needle oar pillow quill ribbon saddle thimble umbrella violin whistle yoke".split(
    " ",
  );

export interface Draw {
  /** Of `count` numbers from 0 on. */
  index(count: number): number;
  pick<Value>(list: readonly Value[]): Value;
  /** As many different ones, in random order. */
  sample<Value>(list: readonly Value[], count: number): Value[];
  /** Two words that were not drawn before. */
  name(): string;
  /** Seven digits. */
  number(): string;
  /** 32 hexadecimal digits in the groups of a UUID. */
  serial(): string;
  /** So many capital or small letters. */
  letters(count: number, alphabet?: string): string;
}

export function draw(random: () => number): Draw {
  const used = new Set<string>();
  const index = (count: number) => Math.floor(random() * count);
  const pick = <Value>(list: readonly Value[]) => list[index(list.length)]!;
  const letters = (count: number, alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ") =>
    Array.from({ length: count }, () => alphabet[index(alphabet.length)]).join("");
  return {
    index,
    pick,
    letters,
    sample(list, count) {
      const left = [...list];
      return Array.from(
        { length: Math.min(count, list.length) },
        () => left.splice(index(left.length), 1).at(0)!,
      );
    },
    name() {
      for (;;) {
        const word = `${pick(qualities)}-${pick(things)}`;
        // When all pairs are used up, a number tells the next ones apart.
        const round = Math.floor(used.size / (qualities.length * things.length));
        const name = round === 0 ? word : `${word}-${round + 1}`;
        if (used.has(name)) continue;
        used.add(name);
        return name;
      }
    },
    number: () => `${1 + index(9)}${letters(6, "0123456789")}`,
    serial: () => [8, 4, 4, 4, 12].map((size) => letters(size, "0123456789abcdef")).join("-"),
  };
}
