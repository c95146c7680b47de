import { renderToStaticMarkup } from "react-dom/server";
import { beforeAll, describe, expect, test } from "vitest";
import type { Citation } from "../../../contract/answer.ts";
import type { Shell } from "../../../contract/shell.ts";
import { splitBlocks } from "../../../renderer/features/chat/blocks.ts";
import { numberCitations } from "../../../renderer/features/chat/Citations.tsx";
import { GrowingMarkdown, Markdown } from "../../../renderer/features/chat/Markdown.tsx";
import { clearMarks, markSentences } from "../../../renderer/features/chat/sentenceMarks.ts";
import { fetchSetters } from "../../../renderer/features/chat/setters.ts";
import { AppProvider, createApp } from "../../../renderer/store/app.ts";

/** A shell that reaches nothing: what is shown here asks for nothing. */
const nowhere: Shell = {
  kind: "browser",
  connect: async () => ({ ok: false, error: { code: "engine_lost", message: "none" } }),
  call: async () => ({ ok: false, error: { code: "not_allowed", message: "none" } }),
  addFiles: async () => ({ ok: false, error: { code: "not_allowed", message: "none" } }),
  onEvent: () => () => {},
};

beforeAll(fetchSetters);

const Marks = ({ index }: { index: number }) => <sup>{index}</sup>;

const show = (text: string) =>
  renderToStaticMarkup(
    <AppProvider value={createApp(nowhere)}>
      <Markdown text={text} Marks={Marks} />
    </AppProvider>,
  );

describe("an answer is shown safely", () => {
  test("HTML is text", () => {
    const html = show('Hello <script>alert(1)</script> <img src="x" onerror="alert(1)"> **there**');
    expect(html).not.toContain("<script");
    expect(html).not.toContain("<img");
    expect(html).toContain("<strong>");
  });

  test("pictures are not fetched", () => {
    const html = show("![a chart](https://example.org/chart.png)");
    expect(html).not.toContain("<img");
    expect(html).not.toContain("example.org");
    expect(html).toContain("a chart");
  });

  test.each(["javascript:alert(1)", "file:///etc/passwd", "data:text/html,x", "//example.org/x"])(
    "a link to %s leads nowhere",
    (address) => {
      expect(show(`[click](${address})`)).not.toContain("<a");
    },
  );

  test("web links open outside, without a referrer", () => {
    const html = show("[site](https://example.org/a?b=c)");
    expect(html).toContain('href="https://example.org/a?b=c"');
    expect(html).toContain("noopener noreferrer");
  });

  test("tables, code and mathematics are set", () => {
    expect(show("| a | b |\n|---|---|\n| 1 | 2 |")).toContain("<td>");
    expect(show("```c\nint x = 1;\n```")).toContain("hljs");
    expect(show("$e^{i\\pi} = -1$")).toContain("katex");
  });

  test("mathematics can't bring in HTML or run away", () => {
    expect(show("$\\href{javascript:alert(1)}{x}$")).not.toContain("href=");
    expect(show("$\\htmlClass{evil}{x}$")).not.toContain('class="evil"');
    const bomb = `$${"\\def\\a{\\b\\b}\\def\\b{\\c\\c}\\def\\c{\\a\\a}"}\\a$`;
    expect(show(bomb)).toContain("katex-error");
  });
});

describe("sentences keep their place through Markdown", () => {
  const text = "First **one**. A second `one`.\n\n- third item";
  const sentences = [
    { start: 0, end: 14 },
    { start: 15, end: 30 },
    { start: 32, end: text.length },
  ];

  test("marks stand after their sentences, and words know theirs", () => {
    const html = show(markSentences(text, sentences));
    expect(html).toContain("<sup>0</sup>");
    expect(html).toContain('<span data-sentence="0">First </span>');
    expect(html).toContain('<strong><span data-sentence="0">one</span></strong>');
    expect(html).toContain('<code><span data-sentence="1">one</span></code>');
    expect(html).toMatch(/<li><span data-sentence="2">third item<\/span><sup>2<\/sup><\/li>/);
    expect(clearMarks(html)).toBe(html);
  });

  test("a mark never breaks a fence, a rule or a table", () => {
    const code = "Look:\n\n```\nx = 1\n```\n\nDone.";
    const end = code.indexOf("```\n\nDone") + 3;
    const html = show(
      markSentences(code, [
        { start: 0, end: 5 },
        { start: 7, end },
        { start: end + 2, end: code.length },
      ]),
    );
    expect(html).toContain("<pre><code>");
    expect(html).toContain("Done.");
    expect(html.indexOf("</pre>")).toBeLessThan(html.indexOf("Done."));
    const table = "| a |\n|---|\n| 1 |";
    expect(show(markSentences(table, [{ start: 0, end: table.length }]))).toContain("<td>");
  });

  test("the model can't forge a mark", () => {
    expect(show(markSentences("fake \uE000\uE001 mark", []))).not.toContain("<sup>");
  });

  test("places beyond the text are left out", () => {
    expect(markSentences("short", [{ start: 0, end: 99 }])).toBe("short");
  });
});

describe("a growing answer", () => {
  test("blocks make up the text again", () => {
    const texts = [
      "One.\n\nTwo.\n\nThree",
      "- a\n\n- b\n\n  more\n\nend",
      "```\na\n\nb\n```\n\nafter",
      "$$\na\n\nb\n$$\n\nafter",
      "$$ x $$\n\nafter",
      "~~~\n```\n\n~~~\n\nafter",
      "",
    ];
    for (const text of texts) expect(splitBlocks(text).join("")).toBe(text);
    expect(splitBlocks(texts[0]!)).toHaveLength(3);
    expect(splitBlocks(texts[1]!)).toHaveLength(2);
    expect(splitBlocks(texts[2]!)).toHaveLength(2);
    expect(splitBlocks(texts[3]!)).toHaveLength(2);
    expect(splitBlocks(texts[4]!)).toHaveLength(2);
    expect(splitBlocks(texts[5]!)).toHaveLength(2);
  });

  test("shows the same words as the finished one", () => {
    const text =
      "# Title\n\nSome *words*.\n\n1. one\n2. two\n\n```js\nlet a;\n\nlet b;\n```\n\nThe end.";
    const words = (html: string) => html.replace(/<[^>]+>/g, "").replace(/\s+/g, "");
    const growing = renderToStaticMarkup(
      <AppProvider value={createApp(nowhere)}>
        <GrowingMarkdown text={text} />
      </AppProvider>,
    );
    expect(words(growing)).toBe(words(show(text)));
  });
});

test("citations are numbered along the answer, quotations first", () => {
  const citation = (sentence: number, from: Citation["from"], quote: string): Citation => ({
    quote,
    page: 1,
    verified: true,
    from,
    start: 0,
    end: 1,
    sentence,
    boxes: [],
  });
  const numbered = numberCitations([
    citation(1, "attention", "c"),
    citation(0, "attention", "b"),
    citation(0, "quotation", "a"),
  ]);
  expect(numbered.map(({ number, citation: { quote } }) => `${number}${quote}`)).toEqual([
    "1a",
    "2b",
    "3c",
  ]);
});
