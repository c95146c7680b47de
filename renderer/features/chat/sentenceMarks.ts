/** Where the sentences of an answer end, carried through Markdown: a mark goes into the source after
 * each sentence and is taken out of the finished tree, where the text before it becomes a span of
 * that sentence, with the numbers of its citations. Marks are two signs of Unicode's private area,
 * which the model's own text is cleared of. */
import type { Element, ElementContent, Root, RootContent, Text } from "hast";

export interface Sentence {
  start: number;
  end: number;
}

const sign = "\uE000";
const firstIndex = 0xe001;
const lastIndex = 0xf8ff;
const privateSigns = /[\uE000-\uF8FF]/g;
const mark = /\uE000([\uE001-\uF8FF])/g;

/** Lines that a sign at their end would turn into something else: fences, rules, rows of tables. */
const brittle = /^\s*(```|~~~|\$\$|([-*_])\s*\2\s*\2[-*_\s]*$|\|.*\|\s*$)/;

/** The Markdown with a mark after each sentence that may bear one. */
export function markSentences(text: string, sentences: readonly Sentence[]): string {
  const clean = clearMarks(text);
  let marked = "";
  let at = 0;
  for (const [index, { end }] of sentences.entries()) {
    if (end < at || end > clean.length || firstIndex + index > lastIndex) continue;
    // Right behind the last word: a mark after a space would begin the next line alone.
    const words = clean.slice(at, end).trimEnd();
    marked += words;
    at += words.length;
    if (!isBrittle(clean, at)) marked += sign + String.fromCharCode(firstIndex + index);
  }
  return marked + clean.slice(at);
}

/** As long as before, so that places in it stay right. */
export const clearMarks = (text: string): string => text.replace(privateSigns, "\uFFFD");

function isBrittle(text: string, at: number): boolean {
  const begin = text.lastIndexOf("\n", at - 1) + 1;
  const end = text.indexOf("\n", at);
  return brittle.test(text.slice(begin, end === -1 ? undefined : end));
}

/** A rehype plugin: marks become spans with `data-sentence`, and after the last of each sentence
 * stands an element `cite-marks` with that index, for the citations' numbers. */
export function rehypeSentences() {
  return (root: Root) => {
    const order = sentencesInOrder(root);
    let current = order.shift();
    const pass = () => {
      current = order.shift();
    };
    root.children = inside(root.children as ElementContent[], () => current, pass) as RootContent[];
  };
}

function sentencesInOrder(node: Root | ElementContent): number[] {
  if (node.type === "text")
    return [...node.value.matchAll(mark)].map(([, index]) => index!.charCodeAt(0) - firstIndex);
  return "children" in node
    ? node.children.flatMap((child) => sentencesInOrder(child as ElementContent))
    : [];
}

function inside(
  children: ElementContent[],
  current: () => number | undefined,
  pass: () => void,
): ElementContent[] {
  return children.flatMap((child): ElementContent[] => {
    if (child.type === "text") return pieces(child, current, pass);
    if (child.type !== "element") return [child];
    return [{ ...child, children: inside(child.children, current, pass) }];
  });
}

/** A text node cut at its marks. */
function pieces(
  { value }: Text,
  current: () => number | undefined,
  pass: () => void,
): ElementContent[] {
  const made: ElementContent[] = [];
  let at = 0;
  for (const found of value.matchAll(mark)) {
    const index = current();
    made.push(...span(value.slice(at, found.index), index));
    made.push({ type: "element", tagName: "cite-marks", properties: { index }, children: [] });
    at = found.index + found[0].length;
    pass();
  }
  made.push(...span(value.slice(at), current()));
  return made;
}

function span(text: string, sentence: number | undefined): ElementContent[] {
  if (text === "") return [];
  const node: Text = { type: "text", value: text };
  if (sentence === undefined || text.trim() === "") return [node];
  const wrapped: Element = {
    type: "element",
    tagName: "span",
    properties: { dataSentence: sentence },
    children: [node],
  };
  return [wrapped];
}
