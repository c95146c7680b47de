import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";

/** The folder that was asked for, else `$SCHOLIA_DATA`, else `$XDG_DATA_HOME/scholia`, else
 * `~/.local/share/scholia`. */
export function dataDir(asked: string | undefined, env: NodeJS.ProcessEnv = process.env): string {
  if (asked !== undefined) return resolve(asked);
  if (env.SCHOLIA_DATA) return resolve(env.SCHOLIA_DATA);
  // XDG Base Directory Specification: a relative path is ignored.
  const xdg = env.XDG_DATA_HOME;
  return join(xdg && isAbsolute(xdg) ? xdg : join(homedir(), ".local", "share"), "scholia");
}
