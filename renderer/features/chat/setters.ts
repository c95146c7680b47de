/** What sets mathematics and code. Few answers have either, so each is fetched for the first that has; until
 * it is here the formula or the code is shown as it was written. */
import { useEffect, useReducer } from "react";
import type { Plugin } from "./plugin.ts";

interface Setter {
  isNeeded(text: string): boolean;
  fetch(): Promise<Plugin>;
}

const setters: Record<"mathematics" | "code", Setter> = {
  mathematics: {
    isNeeded: (text) => text.includes("$"),
    fetch: async () => (await import("./setMathematics.ts")).setMathematics,
  },
  code: {
    isNeeded: (text) => /^[ >]*(```|~~~)/m.test(text),
    fetch: async () => (await import("./setCode.ts")).setCode,
  },
};
type Name = keyof typeof setters;
const names = Object.keys(setters) as Name[];

const fetched = new Map<Name, Plugin>();

const fetchAll = (which: readonly Name[]): Promise<unknown> =>
  Promise.all(which.map(async (name) => fetched.set(name, await setters[name].fetch())));

/** For who can't wait for the first text that needs them. */
export const fetchSetters = (): Promise<unknown> => fetchAll(names);

/** The plugins that this text needs, as far as they are here; the others come with a later rendering. */
export function useSetters(text: string): Plugin[] {
  const [, renderAgain] = useReducer((count: number) => count + 1, 0);
  const needed = names.filter((name) => setters[name].isNeeded(text));
  const missing = needed.filter((name) => !fetched.has(name)).join(" ");
  useEffect(() => {
    if (missing !== "") void fetchAll(missing.split(" ") as Name[]).then(renderAgain);
  }, [missing]);
  return needed.flatMap((name) => {
    const plugin = fetched.get(name);
    return plugin === undefined ? [] : [plugin];
  });
}
