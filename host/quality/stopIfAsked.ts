import { ScholiaError } from "../../contract/errors.ts";

/** Between steps that the engine can't be stopped in.
 * @throws ScholiaError `cancelled` */
export function stopIfAsked(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new ScholiaError("cancelled", "The measurement was stopped.");
}
