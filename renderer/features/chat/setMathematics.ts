import "katex/dist/katex.min.css";
import rehypeKatex from "rehype-katex";
import type { Plugin } from "./plugin.ts";

/** KaTeX may bring in no HTML, and stops at formulas that grow without end. */
export const setMathematics: Plugin = [
  rehypeKatex,
  { trust: false, strict: "ignore", maxExpand: 200, maxSize: 20 },
];
