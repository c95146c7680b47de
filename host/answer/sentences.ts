/** Sentences of a text, as places in it. */

export interface Span {
  start: number;
  end: number;
}

const segmenter = new Intl.Segmenter("en", { granularity: "sentence" });

/** Sentences without the white space around them, in order. A line break ends a sentence only where
 * a blank line or a list item follows: texts from PDFs break lines anywhere. */
export function sentencesOf(text: string): Span[] {
  const spans: Span[] = [];
  let paragraphStart = 0;
  // Segmenting sees a line break as an end of sentence: give it paragraphs with the breaks blanked.
  for (const match of text.matchAll(/\n[ \t]*(?:\n+|(?=[-*•]\s|\d{1,3}[.)]\s|#))|$/g)) {
    const paragraph = text.slice(paragraphStart, match.index).replaceAll("\n", " ");
    for (const { segment, index } of segmenter.segment(paragraph)) {
      const start = paragraphStart + index + (segment.length - segment.trimStart().length);
      const end = paragraphStart + index + segment.trimEnd().length;
      if (end > start) spans.push({ start, end });
    }
    paragraphStart = match.index + match[0].length;
  }
  return joinListMarks(text, spans);
}

/** "1." and "•" alone are no sentences: they belong to the next one. */
function joinListMarks(text: string, spans: Span[]): Span[] {
  const joined: Span[] = [];
  let markStart: number | null = null;
  for (const span of spans) {
    const start: number = markStart ?? span.start;
    markStart = null;
    if (/^(?:\d{1,3}[.)]|[-*•])$/.test(text.slice(start, span.end))) markStart = start;
    else joined.push({ start, end: span.end });
  }
  if (markStart !== null) joined.push({ start: markStart, end: spans.at(-1)!.end });
  return joined;
}

/** The sentence that holds this place; between two, the one before it. Precondition: not empty. */
export function sentenceAt(sentences: Span[], at: number): number {
  const after = sentences.findIndex((sentence) => sentence.start > at);
  return Math.max(0, (after < 0 ? sentences.length : after) - 1);
}
