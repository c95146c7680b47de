import type { ErrorValue } from "../../contract/errors.ts";
import type { App } from "./state.ts";

/** Says an error that no screen of its own shows. */
export function saidError(app: App, error: ErrorValue): void {
  if (error.code !== "cancelled") app.say({ error });
}
