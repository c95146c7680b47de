import "katex/dist/katex.min.css";
import rehypeKatex from "rehype-katex";

/** KaTeX may bring in no HTML, and stops at formulas that grow without end. */
export const setMathematics = [
  rehypeKatex,
  { trust: false, strict: "ignore", maxExpand: 200, maxSize: 20 },
] as const;
