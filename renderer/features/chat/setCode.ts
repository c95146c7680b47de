import rehypeHighlight from "rehype-highlight";

/** Colours code whose language is named. */
export const setCode = [rehypeHighlight, { detect: false }] as const;
