import rehypeHighlight from "rehype-highlight";
import type { Plugin } from "./plugin.ts";

/** Colours code whose language is named. */
export const setCode: Plugin = [rehypeHighlight, { detect: false }];
