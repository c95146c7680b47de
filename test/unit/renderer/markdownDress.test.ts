import { expect, test } from "vitest";
import { dressMarkdown } from "../../../renderer/features/document/markdownDress.ts";
import { markedPieces } from "../../../renderer/features/document/markedPieces.ts";

const dressed = (text: string) =>
  dressMarkdown(text).map(({ start, end, dress }) => `${dress}: ${text.slice(start, end)}`);

test("Markdown is dressed where it stands, its signs apart from its words", () => {
  expect(dressed("# A *b*\n\n**c** `d` [e](f)\n")).toEqual([
    "title: # A *b*",
    "syntax: # ",
    "emphasis: *b*",
    "syntax: *",
    "syntax: *",
    "strong: **c**",
    "syntax: **",
    "syntax: **",
    "code: `d`",
    "syntax: [",
    "syntax: ](f)",
  ]);
});

test("what is code is no Markdown", () => {
  expect(dressed("```\n# no *heading*\n```\n")).toEqual(["code: ```\n# no *heading*\n```"]);
});

test("an empty heading and plain text have nothing to dress but themselves", () => {
  expect(dressed("#\n")).toEqual(["title: #"]);
  expect(dressed("Plain words, 2 * 3 and a_b.\n")).toEqual([]);
});

test("marks and dresses cut the text at all their ends, and lose no letter", () => {
  const text = "## Ab *cd* ef";
  const pieces = markedPieces(
    text,
    10,
    [{ start: 14, end: 18, kind: "cited" }],
    dressMarkdown(text),
  );
  expect(pieces.map((piece) => piece.text).join("")).toBe(text);
  expect(pieces.map(({ text, kind, dresses }) => [text, kind, dresses.join(" ")])).toEqual([
    ["## ", null, "heading syntax"],
    ["A", null, "heading"],
    ["b ", "cited", "heading"],
    ["*", "cited", "heading emphasis syntax"],
    ["c", "cited", "heading emphasis"],
    ["d", null, "heading emphasis"],
    ["*", null, "heading emphasis syntax"],
    [" ef", null, "heading"],
  ]);
});
