/** What sets mathematics and code. Few answers have either, so each is fetched for the first that has; until
 * it is here the formula or the code is shown as it was written. */
import { type ComponentProps, useEffect, useReducer } from "react";
import type ReactMarkdown from "react-markdown";

export type Plugin = NonNullable<ComponentProps<typeof ReactMarkdown>["rehypePlugins"]>[number];

class Setter {
  /** Null until it was fetched. */
  plugin: Plugin | null = null;
  readonly isNeeded: (text: string) => boolean;
  private readonly load: () => Promise<Plugin>;

  constructor(isNeeded: (text: string) => boolean, load: () => Promise<Plugin>) {
    this.isNeeded = isNeeded;
    this.load = load;
  }

  async fetch(): Promise<void> {
    this.plugin = await this.load();
  }
}

const setters = [
  new Setter(
    (text) => text.includes("$"),
    async () => (await import("./setMathematics.ts")).setMathematics as unknown as Plugin,
  ),
  new Setter(
    (text) => /^[ >]*(```|~~~)/m.test(text),
    async () => (await import("./setCode.ts")).setCode as unknown as Plugin,
  ),
];

const fetchAll = (which: readonly Setter[]): Promise<unknown> =>
  Promise.all(which.map((setter) => setter.fetch()));

/** For who can't wait for the first text that needs them. */
export const fetchSetters = (): Promise<unknown> => fetchAll(setters);

/** The plugins that this text needs, as far as they are here; the others come with a later rendering. */
export function useSetters(text: string): Plugin[] {
  const [, renderAgain] = useReducer((count: number) => count + 1, 0);
  const needed = setters.filter(({ isNeeded }) => isNeeded(text));
  const missing = needed.filter(({ plugin }) => plugin === null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: there are as many missing ones or other ones
  useEffect(() => {
    if (missing.length > 0) void fetchAll(missing).then(renderAgain);
  }, [missing.length]);
  return needed.map(({ plugin }) => plugin).filter((plugin) => plugin !== null);
}
