/** Cuts Markdown where one part can't change how another is shown, so that only the last part is
 * parsed again while an answer grows. Lists, quotes, tables and fences stay whole. */

const fence = /^\s{0,3}(```+|~~~+|\$\$)/;
/** A line that may belong to what stands above the blank line. */
const continues = /^(\s|[-*+>|]|\d{1,9}[.)])/;

/** @returns parts that make up the text when they are joined */
export function splitBlocks(text: string): string[] {
  const lines = text.split(/(?<=\n)/);
  const blocks: string[] = [];
  let block = "";
  let openFence: string | null = null;
  let isAfterBlank = false;
  for (const line of lines) {
    if (openFence === null && isAfterBlank && block !== "" && canBegin(line)) {
      blocks.push(block);
      block = "";
    }
    block += line;
    openFence = fenceAfter(line, openFence);
    isAfterBlank = line.trim() === "";
  }
  if (block !== "") blocks.push(block);
  return blocks;
}

const canBegin = (line: string): boolean => line.trim() !== "" && !continues.test(line);

function fenceAfter(line: string, open: string | null): string | null {
  const found = fence.exec(line)?.[1];
  if (found === undefined) return open;
  if (open === null) {
    // `$$ x $$` on one line opens nothing.
    return found === "$$" && line.trim().length > 2 && line.trim().endsWith("$$") ? null : found;
  }
  return found[0] === open[0] && found.length >= open.length ? null : open;
}
