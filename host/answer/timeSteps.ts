/** Where the time of a decode step goes, dense and sparse, in one context. */
import { modes } from "../../contract/answer.ts";
import type { StepTimings } from "../../contract/timing.ts";
import type { Engine } from "../engine/engine.ts";
import { modelOf } from "../prefill/readDocument.ts";

export async function timeSteps(
  engine: Engine,
  sequence: number,
  { budgetTokens, steps }: { budgetTokens: number; steps: number },
  signal: AbortSignal,
): Promise<StepTimings> {
  const timings: StepTimings = {
    model: modelOf(engine),
    depthTokens: 0,
    bytesPerSecond: null,
    modes: [],
  };
  for (const mode of modes) {
    signal.throwIfAborted();
    const timed = await engine.timeSteps(sequence, { mode, budgetTokens, steps });
    timings.depthTokens = timed.depthTokens;
    timings.bytesPerSecond =
      Math.max(timings.bytesPerSecond ?? 0, timed.bytesPerSecond ?? 0) || null;
    timings.modes.push({
      mode,
      budgetTokens: mode === "dense" ? null : budgetTokens,
      stages: timed.stages,
    });
  }
  return timings;
}
