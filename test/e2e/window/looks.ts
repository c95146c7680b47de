// What a test sees of a page beside its words: canvases, streams, and what axe-core says.
import axe from "axe-core";
import type { Page } from "playwright-core";

/** The picture of a page once it is there. */
export const drawnPicture = "canvas:not([width='0'])";

/** Looks of an answer while it was written, each counted once. */
export interface Seen {
  texts: number;
  readMaps: number;
  /** Of the head that is pinned: what it reads along the document. */
  headStrips: number;
  /** What the browser counts as moved while the text grew, by its class. */
  moved: string[];
}

/** Looks at the page every few frames until the action is done. */
export async function watchAnswer(page: Page, action: () => Promise<void>): Promise<Seen> {
  await page.evaluate(() => {
    const seen = { texts: new Set(), readMaps: new Set(), headStrips: new Set() };
    const picture = (selector: string) =>
      document.querySelector<HTMLCanvasElement>(selector)?.toDataURL();
    const moved = new Set<string>();
    const shifts = new PerformanceObserver((list) => {
      if (seen.texts.size === 0) return;
      for (const entry of list.getEntries() as unknown as { sources: { node: Node | null }[] }[])
        for (const { node } of entry.sources)
          moved.add(
            node instanceof Element ? `${node.getAttribute("class")}` : `${node?.nodeName}`,
          );
    });
    shifts.observe({ type: "layout-shift" });
    const timer = setInterval(() => {
      const text = document.querySelector("[aria-busy=true] [class*=growing]")?.textContent;
      if (text === undefined) return;
      seen.texts.add(text);
      seen.readMaps.add(picture("[role=slider] canvas"));
      seen.headStrips.add(picture("canvas[aria-label^='Along the document']"));
    }, 50);
    Object.assign(globalThis, {
      endWatching: () => {
        clearInterval(timer);
        shifts.disconnect();
        const counts = Object.entries(seen).map(([name, { size }]) => [name, size]);
        return { ...Object.fromEntries(counts), moved: [...moved] };
      },
    });
  });
  await action();
  return page.evaluate(() => (globalThis as unknown as { endWatching(): Seen }).endWatching());
}

/** Colours of a canvas, without the see-through. */
export const coloursOf = (page: Page, selector: string): Promise<number> =>
  page.locator(selector).evaluate((canvas: HTMLCanvasElement) => {
    const { data } = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height);
    const colours = new Set<number>();
    for (let at = 0; at < data.length; at += 4)
      if (data[at + 3] === 255)
        colours.add(data[at]! * 65_536 + data[at + 1]! * 256 + data[at + 2]!);
    return colours.size;
  });

/** What axe-core finds serious on the page as it is now.
 * @param rules only these; absent: all */
export async function seriousFindings(page: Page, rules?: string[]): Promise<string[]> {
  // Evaluated, not added as a script: the page's policy allows its own scripts only.
  await page.evaluate(axe.source);
  const violations = await page.evaluate(async (rules) => {
    const { violations } = await (globalThis as unknown as { axe: typeof axe }).axe.run(document, {
      resultTypes: ["violations"],
      ...(rules === undefined ? {} : { runOnly: { type: "rule" as const, values: rules } }),
    });
    return violations.map(({ id, impact, nodes }) => ({
      impact,
      text: `${id}: ${nodes.map(({ target }) => target.join(" ")).join(", ")}`,
    }));
  }, rules);
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ text }) => text);
}
