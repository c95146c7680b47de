import { useEffect, useState } from "react";

/** Colours of the theme for what is drawn on a canvas. */
export interface Colours {
  paper: string;
  ink: string;
  inkSoft: string;
  hairline: string;
  rubric: string;
  focus: string;
  ground: string;
  isDark: boolean;
}

/** The colours of the theme that is shown; renders again when the theme changes. */
export function useColours(): Colours {
  const [colours, setColours] = useState(read);
  useEffect(() => {
    const observer = new MutationObserver(() => setColours(read()));
    observer.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    return () => observer.disconnect();
  }, []);
  return colours;
}

function read(): Colours {
  const style = getComputedStyle(document.documentElement);
  const value = (name: string) => style.getPropertyValue(name).trim();
  return {
    paper: value("--paper"),
    ink: value("--ink"),
    inkSoft: value("--ink-soft"),
    hairline: value("--hairline"),
    rubric: value("--rubric"),
    focus: value("--focus"),
    ground: value("--map-ground"),
    isDark: document.documentElement.dataset.theme === "dark",
  };
}
