/** A chat is a tree of turns; what is shown is one path through it. */
import type { Turn } from "../../contract/chats.ts";

/** The turns from the root to this one; empty for null and for a turn that is not there. */
export function branchTo(tree: readonly Turn[], turnId: string | null): Turn[] {
  const byId = new Map(tree.map((turn) => [turn.id, turn]));
  const branch: Turn[] = [];
  let turn = turnId === null ? undefined : byId.get(turnId);
  // The tree comes from a database: a circle in it must not hang the window.
  while (turn !== undefined && branch.length < tree.length) {
    branch.unshift(turn);
    turn = turn.parentId === null ? undefined : byId.get(turn.parentId);
  }
  return branch;
}

/** Turns that follow the same one, this one included, in the order of asking. */
export const siblingsOf = (tree: readonly Turn[], turn: Turn): readonly Turn[] =>
  familiesOf(tree).get(turn.parentId) ?? [];

const families = new WeakMap<readonly Turn[], Map<string | null, Turn[]>>();

/** Turns by the one that they follow. Every turn on the screen asks for its own at each change of the
 * window's state, so they are sorted once for each tree. */
function familiesOf(tree: readonly Turn[]): Map<string | null, Turn[]> {
  const known = families.get(tree);
  if (known !== undefined) return known;
  const sorted = new Map<string | null, Turn[]>();
  for (const turn of tree) {
    const family = sorted.get(turn.parentId);
    if (family === undefined) sorted.set(turn.parentId, [turn]);
    else family.push(turn);
  }
  families.set(tree, sorted);
  return sorted;
}

/** Another answer to the same question in the other mode, the last one. */
export const counterpartOf = (tree: readonly Turn[], turn: Turn): Turn | null =>
  siblingsOf(tree, turn).findLast(
    ({ mode, question, answer }) =>
      mode !== turn.mode && question === turn.question && answer !== null,
  ) ?? null;

const hasEnded = ({ state }: Turn): boolean => state !== "waiting" && state !== "writing";

/** A chat's turns as they are now, the same objects as before where nothing changed: a turn that has ended
 * never does, and what is the same is not shown anew. */
export function keepTurns(before: readonly Turn[], now: readonly Turn[]): Turn[] {
  const known = new Map(before.filter(hasEnded).map((turn) => [turn.id, turn]));
  return now.map((turn) => known.get(turn.id) ?? turn);
}
