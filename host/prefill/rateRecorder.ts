/** Takes the rates that runs measure anyway, for the pre-flight of later reads. */
import type { Answer } from "../../contract/answer.ts";
import type { Progress } from "../../contract/stream.ts";
import type { Rates } from "../store/rates.ts";

/** Of one prefill; the rate falls slowly with depth. */
const samplesAtMost = 16;

interface Sample {
  depth: number;
  tokens: number;
  tokensPerSecond: number;
}

/** Listens to the progress of one prefill. */
export class PrefillRates {
  private readonly samples: Sample[] = [];
  private lastDone: number | null = null;

  progress({ phase, done, rate }: Progress): void {
    if (phase !== "prefill") return;
    const before = this.lastDone;
    this.lastDone = done;
    // The first rate may be of a chunk that is not known to be whole.
    if (before === null || rate === null || done <= before) return;
    this.samples.push({ depth: (before + done) / 2, tokens: done - before, tokensPerSecond: rate });
  }

  /** Keeps the samples, thinned evenly. */
  record(rates: Rates, model: { name: string; fingerprint: string; device: string }): void {
    const step = Math.max(1, Math.ceil(this.samples.length / samplesAtMost));
    const { device, name, fingerprint } = model;
    for (let index = 0; index < this.samples.length; index += step) {
      const sample = this.samples[index]!;
      rates.add({
        model: { name, fingerprint },
        device,
        what: "prefill",
        budgetTokens: null,
        ...sample,
        depth: Math.round(sample.depth),
      });
    }
  }
}

/** The decode rate of an answer. */
export function recordDecode(rates: Rates, { model, timing, coverage }: Answer): void {
  const { name, fingerprint, device } = model;
  rates.add({
    model: { name, fingerprint },
    device,
    what: coverage.mode,
    depth: timing.depth,
    budgetTokens: coverage.budgetTokens,
    tokensPerSecond: timing.decodeTokensPerSecond,
    tokens: timing.decodeTokens,
  });
}
