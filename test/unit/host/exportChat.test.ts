import { describe, expect, test } from "vitest";
import { encodeMessage } from "../../../contract/codec.ts";
import { encodeTrace } from "../../../contract/trace.ts";
import { exportChat } from "../../../host/answer/exportChat.ts";
import { decodeReadMap, ReadMapCollector } from "../../../host/answer/readMap.ts";
import { answerOf } from "../store/answerOf.ts";
import { dataFolder } from "../store/folder.ts";

const folder = dataFolder();

async function chatOfTwo() {
  const { chats, documents } = await folder.open();
  const { id } = await documents.add(await folder.write("a.txt", "text"));
  const chat = chats.create({ documentId: id, path: "/a.txt", pages: "1-3" });
  const one = chats.ask(chat, {
    question: "Where is\nthe ferry?",
    runId: "r",
    mode: "dense",
    budgetTokens: 1,
    pages: null,
  });
  chats.answered(
    one.turnId,
    answerOf("In the harbour.", {
      citations: [
        {
          quote: "the ferry lies in the\nharbour",
          page: 7,
          verified: true,
          from: "quotation",
          match: "exact",
          start: 1,
          end: 2,
          sentence: 0,
          boxes: [],
        },
        {
          quote: "made up",
          page: null,
          verified: false,
          from: "quotation",
          start: null,
          end: null,
          sentence: 0,
          boxes: [],
        },
      ],
    }),
    null,
  );
  const two = chats.ask(chat, {
    question: "And when?",
    runId: "r",
    mode: "dense",
    budgetTokens: 1,
    pages: null,
  });
  chats.failed(two.turnId, { code: "context_exceeded", message: "Too long." });
  return { chats, chat, one };
}

describe("a chat as a file", () => {
  test("as Markdown has the branch that is shown, with citations and certificates", async () => {
    const { chats, chat, one } = await chatOfTwo();
    const { name, text } = exportChat(chats.get(chat), "markdown");
    expect(name).toBe("a.txt - Where is the ferry.md");
    expect(text).toContain("## Where is the ferry?\n\nIn the harbour.");
    expect(text).toContain("- “the ferry lies in the harbour” (page 7)");
    expect(text).toContain("- “made up” (not found)");
    expect(text).toContain("> 90 of 90 tokens in context, pages 1-3 of 3; AB-Sparse, 2,048 tokens");
    expect(text).toContain("## And when?\n\n*No answer.*\n\n*(failed: Too long.)*");
    chats.ask(chat, {
      question: "Another way?",
      parentId: one.parentId,
      runId: "r",
      mode: "dense",
      budgetTokens: 1,
      pages: null,
    });
    const other = exportChat(chats.get(chat), "markdown").text;
    expect(other).toContain("2 turns of other branches are left out.");
    expect(other).not.toContain("And when?");
  });

  test("as JSON has everything", async () => {
    const { chats, chat } = await chatOfTwo();
    const { name, text } = exportChat(chats.get(chat), "json");
    expect(name).toMatch(/\.json$/);
    expect(JSON.parse(text)).toEqual({
      format: "scholia chat",
      version: 1,
      ...JSON.parse(JSON.stringify(chats.get(chat))),
    });
  });

  test("has a name that file systems take", async () => {
    const { chats, chat } = await chatOfTwo();
    chats.rename(chat, '../..\\a:b*c?"<>|\u0007. ');
    expect(exportChat(chats.get(chat), "json").name).toBe("a.txt - .. .. a b c.json");
  });
});

describe("a read map", () => {
  const frame = (strip: number[], blocks = 1, massKept: number | null = null) =>
    encodeTrace({
      holdsMass: true,
      depth: 100,
      documentStart: 0,
      documentEnd: 90,
      kvBytes: 0,
      digestBytes: 0,
      denseBytes: 0,
      blockTokens: Uint16Array.of(32),
      blocksRead: Uint16Array.of(blocks),
      massKept: massKept === null ? null : Float32Array.of(massKept),
      mean: Float32Array.from(strip),
      perHead: new Float32Array(0),
      headBins: 0,
    });
  const context = {
    documentTokens: 90,
    aroundTokens: 0,
    leadingTokens: 0,
    historyTokens: 0,
    questionTokens: 0,
    answerTokens: 0,
    contextTokens: 100,
    pages: [
      { number: 2, tokens: 40 },
      { number: 5, tokens: 50 },
    ],
  };

  test("has the mean over the steps of each sentence and of the whole", () => {
    const collector = new ReadMapCollector();
    expect(collector.encode("", context)).toBeNull();
    collector.add(frame([1, 0, 0]), 0);
    collector.add(frame([0, 1, 0]), 5);
    // This token begins with the space after the first sentence.
    collector.add(frame([0, 0, 1]), 10);
    const map = decodeReadMap(collector.encode("One two a. Three.", context)!)!;
    expect(map).toMatchObject({ documentTokens: 90, pages: context.pages, bins: 3 });
    const rounded = (strip: Float32Array) => [...strip].map((value) => Number(value.toFixed(2)));
    expect(rounded(map.whole)).toEqual([0.33, 0.33, 0.33]);
    expect(map.sentences.map(({ start, end }) => [start, end])).toEqual([
      [0, 10],
      [11, 17],
    ]);
    expect(map.sentences.map(({ strip }) => rounded(strip))).toEqual([
      [0.5, 0.5, 0],
      [0, 0, 1],
    ]);
  });

  test("has what each head read, and the mass kept where it was measured", () => {
    const collector = new ReadMapCollector();
    collector.add(frame([1], 4, 0.8), 0);
    collector.add(frame([1], 8), 1);
    collector.add(frame([1], 6, 0.4), 2);
    const { heads } = decodeReadMap(collector.encode("One.", context)!)!;
    expect(heads?.blockTokens).toEqual([32]);
    expect(heads?.blocksRead).toEqual(Float32Array.of(6));
    expect(heads?.keptSteps).toEqual([0, 2]);
    expect([...heads!.massKept].map((share) => share.toFixed(2))).toEqual(["0.80", "0.40"]);
  });

  test("of before heads were kept is read all the same", () => {
    const strip = { scale: 1, values: Uint8Array.of(255) };
    const old = { version: 1, documentTokens: 9, pages: [1], tokensOfPages: [9] };
    const bytes = encodeMessage({ ...old, whole: strip, sentences: [] }) as Uint8Array;
    expect(decodeReadMap(bytes)).toMatchObject({ documentTokens: 9, bins: 1, heads: null });
  });
});
