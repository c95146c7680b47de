import type { ComponentProps } from "react";
import type ReactMarkdown from "react-markdown";

/** What works on the HTML that Markdown has become. */
export type Plugin = NonNullable<ComponentProps<typeof ReactMarkdown>["rehypePlugins"]>[number];
