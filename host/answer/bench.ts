/** `scholia bench`: rates at depths, measured in the engine beside libllama. */
import type { BenchRow } from "../../contract/bench.ts";
import { ScholiaError } from "../../contract/errors.ts";
import type { RunParsed } from "../../contract/routes.ts";
import type { RunSink } from "../channel.ts";
import type { Engine } from "../engine/engine.ts";
import { madeUpText } from "../tokens/madeUpText.ts";

export async function bench(
  input: RunParsed<"bench.run">,
  engine: Engine,
  sink: RunSink,
): Promise<BenchRow[]> {
  const decodes = input.what.includes("decode");
  const needed = Math.max(...input.depths) + (decodes ? input.decodeTokens + 1 : 0);
  if (needed > engine.model.contextTokens) {
    throw new ScholiaError(
      "context_exceeded",
      `The largest depth needs ${needed.toLocaleString("en")} tokens of context; the model holds ` +
        `${engine.model.contextTokens.toLocaleString("en")}. Give smaller --depths.`,
    );
  }
  const rows = await engine.bench(await textOf(engine, needed, input.seed), {
    depths: input.depths,
    modes: input.modes,
    budgetTokens: input.budgetTokens,
    repetitions: input.repetitions,
    decodeTokens: input.decodeTokens,
    peer: input.peer,
    prefill: input.what.includes("prefill"),
    decode: decodes,
    signal: sink.signal,
    onProgress: ({ message }) => sink.notice(message),
  });
  for (const row of rows) sink.row(row);
  return rows;
}

/** As many tokens of made-up prose. */
async function textOf(engine: Engine, count: number, seed: number): Promise<Int32Array> {
  for (let words = count; ; words *= 2) {
    const tokens = await engine.tokenize(madeUpText(words, seed), false);
    if (tokens.length >= count) return tokens.slice(0, count);
  }
}
