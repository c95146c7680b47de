import type { Page } from "playwright-core";

export interface Walk {
  /** Controls that had the focus, by their looks in HTML. */
  reached: string[];
  /** Controls that Tab did not come to. */
  missed: string[];
  /** Controls that had the focus and did not show it. */
  unseen: string[];
}

/** Presses Tab from the window's beginning until it is left or all has been visited. Controls that arrow
 * keys move among (tabs, menus) count as one. */
export async function walkByTab(page: Page): Promise<Walk> {
  const controls = await page.evaluate(() => {
    const selector =
      "a[href], button, input, select, textarea, summary, [tabindex], [role=button], [role=tab]";
    const isMember = (element: Element) =>
      element.getAttribute("tabindex") === "-1" &&
      element.closest("[role=tablist], [role=menu], [role=radiogroup], [role=tabpanel]") !== null;
    const all = [...document.querySelectorAll<HTMLElement>(selector)].filter(
      (element) =>
        element.checkVisibility({ checkVisibilityCSS: true }) &&
        !element.matches(":disabled, [aria-hidden=true] *, [role=tablist]") &&
        !isMember(element),
    );
    for (const [index, element] of all.entries()) element.dataset.walk = `${index}`;
    if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
    return all.map((element) => (element.cloneNode() as HTMLElement).outerHTML.slice(0, 200));
  });
  const reached = new Set<number>();
  const unseen = new Set<number>();
  for (let step = 0; step < controls.length * 2 && reached.size < controls.length; step++) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const element = document.activeElement as HTMLElement;
      // A field may leave it to the box that it stands in.
      const isSeen = [element, element.parentElement!].some((shown) => {
        const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(shown);
        return (outlineStyle !== "none" && outlineWidth !== "0px") || boxShadow !== "none";
      });
      return { index: element.dataset.walk, isSeen };
    });
    if (at.index === undefined) continue;
    reached.add(Number(at.index));
    if (!at.isSeen) unseen.add(Number(at.index));
  }
  const named = (indexes: Iterable<number>) => [...indexes].map((index) => controls[index]!);
  return {
    reached: named(reached),
    missed: controls.filter((_, index) => !reached.has(index)),
    unseen: named(unseen),
  };
}
