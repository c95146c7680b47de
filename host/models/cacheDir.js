// JavaScript, because the start script reads it on Nodes that can't strip types.
import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";

/**
 * Where everything that is fetched lies: weights, native libraries and headers, Node, documents for
 * tests. `$SCHOLIA_CACHE`, else `$XDG_CACHE_HOME/scholia` (XDG Base Directory Specification: a
 * relative path there is ignored), else `~/.cache/scholia`.
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {string} an absolute path; the folder need not exist yet
 */
export function cacheDir(env = process.env) {
  if (env.SCHOLIA_CACHE) return resolve(env.SCHOLIA_CACHE);
  const xdg = env.XDG_CACHE_HOME;
  return join(xdg && isAbsolute(xdg) ? xdg : join(homedir(), ".cache"), "scholia");
}
