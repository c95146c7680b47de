/** How Markdown's source is dressed: its letters stay where they are, so that places in the text hold. */
import type { Nodes } from "mdast";
import { fromMarkdown } from "mdast-util-from-markdown";

export type Dress = "title" | "heading" | "strong" | "emphasis" | "code" | "syntax";

export interface DressedRange {
  /** Place in the text that was given. */
  start: number;
  end: number;
  dress: Dress;
}

const dressOf: Partial<Record<Nodes["type"], Dress>> = {
  strong: "strong",
  emphasis: "emphasis",
  inlineCode: "code",
  code: "code",
};

/** Ranges of the text that look different from prose; inner ones follow the outer ones. */
export function dressMarkdown(text: string): DressedRange[] {
  const ranges: DressedRange[] = [];
  const visit = (node: Nodes): void => {
    const [start, end] = placeOf(node);
    const dress =
      node.type === "heading" ? (node.depth === 1 ? "title" : "heading") : dressOf[node.type];
    if (dress !== undefined) ranges.push({ start, end, dress });
    if (!("children" in node)) return;
    const [first, last] = [node.children[0], node.children.at(-1)];
    if (hasMarks(node) && first !== undefined && last !== undefined) {
      ranges.push({ start, end: placeOf(first)[0], dress: "syntax" });
      ranges.push({ start: placeOf(last)[1], end, dress: "syntax" });
    }
    for (const child of node.children) visit(child);
  };
  visit(fromMarkdown(text));
  return ranges.filter(({ start, end }) => end > start);
}

/** Whether what stands before and behind a node's children is a sign and no text. */
const hasMarks = ({ type }: Nodes): boolean =>
  type === "heading" || type === "strong" || type === "emphasis" || type === "link";

const placeOf = ({ position }: Nodes): [number, number] => [
  position?.start.offset ?? 0,
  position?.end.offset ?? 0,
];
