import type { Mode } from "../../contract/answer.ts";
import type { BenchRow } from "../../contract/bench.ts";
import { bytes, rate, table } from "../format.ts";
import { type EngineOptions, engineSettings } from "../options.ts";
import { exitCodes, type Shell } from "../shell.ts";

export interface BenchOptions extends EngineOptions {
  depths: number[];
  mode: Mode[];
  budget: number;
  peer?: boolean;
  repetitions: number;
  decodeTokens: number;
  what: ("prefill" | "decode")[];
  seed: number;
}

/** Prefill and decode rates at depths, beside libllama's when asked. */
export async function bench(shell: Shell, options: BenchOptions): Promise<number> {
  const run = shell.client.open("bench.run", {
    ...engineSettings(options),
    depths: options.depths,
    modes: options.mode,
    budgetTokens: options.budget,
    peer: options.peer ?? false,
    repetitions: options.repetitions,
    decodeTokens: options.decodeTokens,
    what: options.what,
    seed: options.seed,
  });
  const rows = await shell.follow(run);
  shell.terminal.out(options.json ? `${JSON.stringify(rows, null, 2)}\n` : benchText(rows));
  return exitCodes.ok;
}

function benchText(rows: BenchRow[]): string {
  return table(
    rows.map((row) => [
      row.what,
      row.mode,
      row.depth,
      rate(row.tokensPerSecond),
      row.peerTokensPerSecond === null ? "–" : rate(row.peerTokensPerSecond),
      row.ratio === null ? "–" : row.ratio.toFixed(2),
      row.bytesPerToken === null ? "–" : bytes(row.bytesPerToken),
      row.repetitions,
    ]),
    ["what", "mode", "depth", "tokens/s", "libllama", "ratio", "read per token", "runs"],
  );
}
