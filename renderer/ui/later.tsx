import { type ComponentType, lazy, Suspense } from "react";

const fetches: (() => Promise<unknown>)[] = [];

/** A part of the window that its first screen can do without: its script is fetched when it is shown, or
 * by {@link fetchParts}. */
export function later<Props extends object>(
  fetch: () => Promise<ComponentType<Props>>,
): ComponentType<Props> {
  fetches.push(fetch);
  const Part = lazy(async () => ({ default: await fetch() }));
  return (props) => (
    <Suspense fallback={null}>
      <Part {...props} />
    </Suspense>
  );
}

/** Fetches all parts when the window has nothing else to do, so that each shows at once. */
export function fetchParts(): void {
  window.requestIdleCallback(() => {
    for (const fetch of fetches) void fetch();
  });
}
