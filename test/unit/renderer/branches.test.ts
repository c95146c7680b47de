import { describe, expect, test } from "vitest";
import type { Answer, Mode } from "../../../contract/answer.ts";
import type { Turn } from "../../../contract/chats.ts";
import type { DocumentDetail } from "../../../contract/documents.ts";
import { firstDifference } from "../../../renderer/features/compare/divergence.ts";
import { markedPieces } from "../../../renderer/features/document/markedPieces.ts";
import { pictureWidth } from "../../../renderer/features/document/usePage.ts";
import {
  branchTo,
  counterpartOf,
  keepTurns,
  siblingsOf,
} from "../../../renderer/store/branches.ts";
import { pagesInRange, placeInDocument } from "../../../renderer/store/pages.ts";

const turn = (
  id: string,
  parentId: string | null,
  question = "q",
  mode: Mode = "ab-sparse",
): Turn => ({
  id,
  parentId,
  question,
  mode,
  text: "",
  sentences: [],
  state: "answered",
  answer: {} as Answer,
  error: null,
  runId: null,
  budgetTokens: 2048,
  pages: null,
  askedAt: "2026-01-01T00:00:00Z",
});

describe("branches of a chat", () => {
  const tree = [
    turn("a", null),
    turn("b", "a"),
    turn("c", "a", "other"),
    turn("d", "b"),
    turn("e", "a", "q", "dense"),
  ];

  test("a branch leads from the first turn to the one shown", () => {
    expect(branchTo(tree, "d").map(({ id }) => id)).toEqual(["a", "b", "d"]);
    expect(branchTo(tree, null)).toEqual([]);
    expect(branchTo(tree, "nowhere")).toEqual([]);
  });

  test("turns that have ended stay the same objects when the chat is asked for again", () => {
    const writing: Turn = { ...turn("f", "d"), state: "writing", answer: null };
    const before = [...tree, writing];
    const now = [...before.map((each) => structuredClone(each)), turn("g", "f")];
    now[5] = { ...now[5]!, state: "answered", text: "whole" };
    const kept = keepTurns(before, now);
    expect(kept.map(({ id }) => id)).toEqual(["a", "b", "c", "d", "e", "f", "g"]);
    for (const index of tree.keys()) expect(kept[index]).toBe(tree[index]);
    expect(kept[5]).toBe(now[5]);
    expect(keepTurns(before, now.slice(1, 3))).toEqual(tree.slice(1, 3));
  });

  test("a circle in a damaged tree ends", () => {
    expect(branchTo([turn("a", "b"), turn("b", "a")], "a")).toHaveLength(2);
  });

  test("siblings follow the same turn, in the order of asking", () => {
    expect(siblingsOf(tree, tree[1]!).map(({ id }) => id)).toEqual(["b", "c", "e"]);
    expect(siblingsOf(tree, tree[0]!).map(({ id }) => id)).toEqual(["a"]);
  });

  test("the counterpart answers the same question in the other mode", () => {
    expect(counterpartOf(tree, tree[1]!)?.id).toBe("e");
    expect(counterpartOf(tree, tree[4]!)?.id).toBe("b");
    expect(counterpartOf(tree, tree[2]!)).toBeNull();
  });
});

describe("ranges of pages", () => {
  test("as the command line takes them", () => {
    expect(pagesInRange("1-3,7", 10)).toEqual([1, 2, 3, 7]);
    expect(pagesInRange("8-", 10)).toEqual([8, 9, 10]);
    expect(pagesInRange("7,1-2,2", 10)).toEqual([1, 2, 7]);
    expect(pagesInRange("9-99", 10)).toEqual([9, 10]);
    expect(pagesInRange("x", 10)).toEqual([]);
    expect(pagesInRange("", 10)).toEqual([]);
  });

  test("a place in the text of chosen pages is found in the whole text", () => {
    const pages = [0, 10, 25, 60].map((start, index) => ({
      number: index + 1,
      label: `${index + 1}`,
      start,
      end: [10, 25, 60, 100][index]!,
      status: "text" as const,
    }));
    const detail = { pages, documentPages: 4 } as DocumentDetail;
    expect(placeInDocument(detail, null, 42)).toBe(42);
    expect(placeInDocument(detail, "2,4", 0)).toBe(10);
    expect(placeInDocument(detail, "2,4", 14)).toBe(24);
    expect(placeInDocument(detail, "2,4", 15)).toBe(60);
    expect(placeInDocument(detail, "2,4", 55)).toBeNull();
  });
});

describe("marked text", () => {
  const kinds = (ranges: Parameters<typeof markedPieces>[2]) =>
    markedPieces("abcdefghij", 100, ranges).map(({ text, kind }) => `${text}:${kind ?? ""}`);

  test("is cut where marks begin and end", () => {
    expect(kinds([])).toEqual(["abcdefghij:"]);
    expect(kinds([{ start: 102, end: 104, kind: "found" }])).toEqual([
      "ab:",
      "cd:found",
      "efghij:",
    ]);
  });

  test("marks may overlap, and reach over the ends", () => {
    expect(
      kinds([
        { start: 90, end: 104, kind: "found" },
        { start: 102, end: 999, kind: "cited" },
      ]),
    ).toEqual(["ab:found", "cd:cited", "efghij:cited"]);
  });
});

test("two answers differ from the beginning of a word", () => {
  expect(firstDifference("one two three", "one two thing")).toBe(8);
  expect(firstDifference("same", "same")).toBe(4);
  expect(firstDifference("other", "same")).toBe(0);
  expect(firstDifference("one two", "one two three")).toBe(4);
  expect(firstDifference("", "x")).toBe(0);
});

test("pictures come in steps of width", () => {
  expect(pictureWidth(1)).toBe(200);
  expect(pictureWidth(801)).toBe(1000);
  expect(pictureWidth(99_999)).toBe(4096);
});
