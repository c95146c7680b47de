import { spawn } from "node:child_process";
import { describe, expect, test } from "vitest";
import type { Chats, NewTurn } from "../../../host/store/chats.ts";
import { thisHost } from "../../../host/store/hostName.ts";
import { answerOf, documentId } from "./answerOf.ts";
import { dataFolder } from "./folder.ts";

const folder = dataFolder();

const question = (text: string, change: Partial<NewTurn> = {}): NewTurn => ({
  question: text,
  runId: "run-1",
  mode: "ab-sparse",
  budgetTokens: 2048,
  pages: null,
  ...change,
});

async function openChat() {
  const library = await folder.open();
  const { id } = await library.documents.add(await folder.write("a.txt", "text"));
  const chat = library.chats.create({ documentId: id, path: "/a.txt", pages: null });
  return { ...library, id, chat };
}

/** Asks and answers at once. */
function exchange(chats: Chats, chat: string, text: string, parentId?: string | null): string {
  const { turnId } = chats.ask(chat, question(text, { parentId }));
  chats.answered(turnId, answerOf(`Answer to ${text}`), null);
  return turnId;
}

describe("chats", () => {
  test("are trees: asking again or after an edit makes a branch", async () => {
    const { chats, chat } = await openChat();
    const one = exchange(chats, chat, "One?");
    const two = exchange(chats, chat, "Two?");
    const three = exchange(chats, chat, "Three?");
    const edited = exchange(chats, chat, "Two, edited?", one);
    expect(chats.path(chat, chats.shown(chat))).toEqual([
      { question: "One?", answer: "Answer to One?" },
      { question: "Two, edited?", answer: "Answer to Two, edited?" },
    ]);
    const otherRoot = exchange(chats, chat, "Another beginning?", null);
    const { tree, shown, turns } = chats.get(chat);
    expect(tree.map(({ id, parentId }) => [id, parentId])).toEqual([
      [one, null],
      [two, one],
      [three, two],
      [edited, one],
      [otherRoot, null],
    ]);
    expect([shown, turns]).toEqual([otherRoot, 5]);
    chats.show(chat, two);
    expect(chats.shown(chat)).toBe(three);
    chats.show(chat, one);
    expect(chats.shown(chat)).toBe(edited);
    expect(() => chats.show(chat, "0000")).toThrow(/not in the chat/);
    expect(() => chats.ask(chat, question("?", { parentId: "0000" }))).toThrow(/not in the chat/);
  });

  test("keep an answer with all that belongs to it", async () => {
    const { chats, chat, id } = await openChat();
    const { turnId, parentId } = chats.ask(chat, question("One?"));
    expect(parentId).toBeNull();
    expect(chats.get(chat).tree[0]).toMatchObject({ state: "waiting", runId: "run-1", text: "" });
    chats.writing(turnId, "First sentence. Sec");
    expect(chats.get(chat).tree[0]).toMatchObject({
      state: "writing",
      text: "First sentence. Sec",
      sentences: [
        { start: 0, end: 15 },
        { start: 16, end: 19 },
      ],
    });
    const answer = answerOf("First sentence. Second.");
    chats.answered(turnId, answer, Uint8Array.of(1, 2));
    expect(chats.get(chat).tree[0]).toMatchObject({ state: "answered", runId: null, answer });
    expect(chats.readMap(turnId).bytes).toEqual(Uint8Array.of(1, 2));
    expect(chats.list({ documentId: id })).toMatchObject([
      { id: chat, title: "One?", turns: 1, documentId: id, documentTitle: "a.txt" },
    ]);
    expect(chats.list({ documentId })).toEqual([]);
  });

  test("tell a stopped turn from a failed one, and leave turns without words out of a path", async () => {
    const { chats, chat } = await openChat();
    const stopped = chats.ask(chat, question("One?")).turnId;
    chats.answered(stopped, answerOf("Half an", { stop: "cancelled" }), null);
    const failed = chats.ask(chat, question("Two?")).turnId;
    chats.failed(failed, { code: "context_exceeded", message: "Too long." });
    const cancelled = chats.ask(chat, question("Three?")).turnId;
    chats.failed(cancelled, { code: "cancelled", message: "Stopped." });
    expect(chats.get(chat).tree).toMatchObject([
      { state: "stopped", text: "Half an" },
      { state: "failed", error: { code: "context_exceeded" } },
      { state: "stopped", error: { code: "cancelled" } },
    ]);
    expect(chats.path(chat, cancelled)).toEqual([{ question: "One?", answer: "Half an" }]);
  });

  test("mark what a dead host was writing, and keep its words", async () => {
    const { chats, chat, database } = await openChat();
    const dead = chats.ask(chat, question("One?")).turnId;
    chats.writing(dead, "The begin");
    const living = chats.ask(chat, question("Two?")).turnId;
    const reused = chats.ask(chat, question("Three?")).turnId;
    const child = spawn(process.execPath, ["-e", ""]);
    await new Promise((resolve) => child.once("exit", resolve));
    const setHost = (turn: string, host: string) =>
      database.run("UPDATE turns SET host = ? WHERE id = ?", host, turn);
    setHost(dead, `${child.pid}:1`);
    // Another process has the number now.
    setHost(reused, `${process.pid}:1`);
    expect(thisHost()).toMatch(new RegExp(`^${process.pid}:\\d+$`));
    const again = await folder.open();
    expect(again.chats.get(chat).tree).toMatchObject([
      { id: dead, state: "interrupted", text: "The begin", runId: null },
      { id: living, state: "waiting" },
      { id: reused, state: "interrupted" },
    ]);
  });

  test("are found by the words in them", async () => {
    const { chats, chat, id } = await openChat();
    exchange(chats, chat, "Where is the harbour of the ferry?");
    const other = chats.create({ documentId: id, path: "/a.txt", pages: "1-2" });
    exchange(chats, other, "Who wrote the manual?");
    const found = (query: string) => chats.list({ query }).map((entry) => entry.id);
    expect(found("HARBOUR ferry")).toEqual([chat]);
    expect(found("harbour manual")).toEqual([]);
    expect(found("answer").sort()).toEqual([chat, other].sort());
    expect(chats.list({ query: "manual" })[0]?.excerpt).toContain("Who wrote the manual?");
    chats.rename(other, "Authors");
    expect(found("authors")).toEqual([other]);
  });

  test("can be removed with all of their branches", async () => {
    const { chats, chat } = await openChat();
    const one = exchange(chats, chat, "One?");
    exchange(chats, chat, "Two?");
    exchange(chats, chat, "Two again?", one);
    chats.remove(chat);
    expect(chats.list()).toEqual([]);
    expect(() => chats.get(chat)).toThrow(/There is no chat/);
    expect(() => chats.remove(chat)).toThrow(/There is no chat/);
  });
});

describe("settings", () => {
  test("have defaults, are kept, and survive a value that is not understood", async () => {
    const { settings, database } = await folder.open();
    expect(settings.get()).toMatchObject({ mode: "ab-sparse", budgetTokens: null, model: null });
    settings.set({ budgetTokens: 512, window: { panes: [1, 2] } });
    database.run("INSERT INTO settings VALUES ('theme', '\"purple\"')");
    database.run("INSERT INTO settings VALUES ('threads', 'no JSON')");
    const again = (await folder.open()).settings.get();
    expect(again).toMatchObject({
      budgetTokens: 512,
      theme: "system",
      threads: 0,
      window: { panes: [1, 2] },
    });
  });
});
