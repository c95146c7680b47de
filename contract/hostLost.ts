/** The error of a host process that ended: what every shell says of it. */
import type { ErrorValue } from "./errors.ts";

const shownLines = 8;

/** @param how "ended with code 3", "was ended by SIGKILL" …
 * @param lastLines what the process wrote last */
export function hostLost(how: string, lastLines: readonly string[], hint = ""): ErrorValue {
  const tail = lastLines
    .slice(-shownLines)
    .map((line) => `\n  | ${line}`)
    .join("");
  const said = tail === "" ? "" : ` Its last lines:${tail}`;
  return {
    code: "engine_lost",
    message: `The host process ${how}.${hint} What was saved is kept; start again to go on.${said}`,
  };
}
