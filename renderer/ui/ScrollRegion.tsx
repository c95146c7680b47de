import type { HTMLAttributes, Ref } from "react";

interface ScrollRegionProps extends Omit<HTMLAttributes<HTMLElement>, "aria-label" | "tabIndex"> {
  /** For screen readers. */
  label: string;
  ref?: Ref<HTMLElement>;
}

/** A part of the window that scrolls, by keyboard too. */
export function ScrollRegion({ label, ...rest }: ScrollRegionProps) {
  // biome-ignore lint/a11y/noNoninteractiveTabindex: without the focus, keys could not scroll it
  return <section aria-label={label} tabIndex={0} {...rest} />;
}
