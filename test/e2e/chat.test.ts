import { spawn } from "node:child_process";
import { beforeAll, describe, expect, test } from "vitest";
import { answerSchema } from "../../contract/answer.ts";
import type { Chat } from "../../contract/chats.ts";
import { openLibrary } from "../../host/store/library.ts";
import { textWith } from "./madeUpDocuments.ts";
import { entry, small, until, usePlace } from "./scholia.ts";

const place = usePlace();
let file: string;

beforeAll(async () => {
  const facts = [
    "The door code of Ida's boathouse is 48213.",
    "The door code of Olaf's mill is 90517.",
  ];
  file = await place.write("chat.txt", textWith(facts, 600));
});

/** The chats as they are kept, oldest first. */
async function keptChats(): Promise<Chat[]> {
  const library = await openLibrary(place.data);
  const chats = library.chats.list().map(({ id }) => library.chats.get(id));
  library.close();
  return chats.sort((a, b) => a.startedAt.localeCompare(b.startedAt));
}

describe("scholia chat", () => {
  test("answers one question after the other, each on from the last", async () => {
    const input =
      "What is the door code of Ida's boathouse?\n\nAnd of Olaf's mill?\n/quit\nNot asked\n";
    const { code, out, err } = await place.run(
      ["chat", file, ...small, "--max-tokens", "32", "--json"],
      { input },
    );
    expect(code, err).toBe(0);
    const answers = out
      .trimEnd()
      .split("\n")
      .map((line) => answerSchema.parse(JSON.parse(line)));
    expect(answers).toHaveLength(2);
    const [first, second] = answers;
    expect(first!.answer).toContain("48213");
    expect(first!.timing.prefillTokens).toBeLessThan(64);
    // Everything up to the first answer's end is in the sequence already.
    expect(second!.timing.cachedInMemory).toBe(first!.timing.depth);
    expect(second!.timing.prefillTokens).toBeLessThan(64);
    expect(second!.coverage.tokensInContext).toBe(second!.coverage.documentTokens);
    const [chat, ...others] = await keptChats();
    expect(others).toEqual([]);
    expect(chat!.tree).toMatchObject([
      { question: "What is the door code of Ida's boathouse?", state: "answered" },
      { question: "And of Olaf's mill?", state: "answered", text: second!.answer },
    ]);
    expect(chat!.tree[0]!.answer).toEqual(first);
  });

  test("goes on with an earlier chat", async () => {
    const [chat] = await keptChats();
    const id = chat!.id;
    const { code, out, err } = await place.run(
      ["chat", file, "--chat", id, ...small, "--max-tokens", "16", "--json"],
      { input: "Thank you. What was my first question?\n" },
    );
    expect(code, err).toBe(0);
    const answer = answerSchema.parse(JSON.parse(out));
    // The document from disk, the earlier turns read again.
    expect(answer.timing.cachedTokens).toBeGreaterThan(answer.coverage.documentTokens);
    expect(answer.timing.prefillTokens).toBeGreaterThan(40);
    const [now, ...others] = await keptChats();
    expect(others).toEqual([]);
    expect(now!.tree).toHaveLength(3);
  });

  test("starts with a file alone, and stops an answer with Ctrl+C", async () => {
    const running = place.start([file, ...small, "--max-tokens", "2000"], {
      input: "Write a very long story about the harbour and every boat in it.\n",
    });
    await until(() => (running.out().length > 40 ? true : undefined));
    running.signal("SIGINT");
    const { code, err, out } = await running.finished;
    expect(code, err).toBe(0);
    expect(err).toContain("Stopping");
    expect(out).toContain("nothing was cut");
  });

  test("on a terminal: Ctrl+C stops the answer, then the chat goes on until Ctrl+D", async () => {
    const scholia = [process.execPath, entry, "chat", file, ...small, "--max-tokens", "2000"];
    // `script` (util-linux) gives the command line a terminal of its own. A shell in between would
    // die of the Ctrl+C that the command line survives, and report that.
    const command = `exec ${scholia.map((word) => `'${word}'`).join(" ")}`;
    const child = spawn("script", ["-qec", command, "/dev/null"], {
      env: { ...process.env, SCHOLIA_DATA: place.data, TERM: "xterm" },
    });
    let seen = "";
    child.stdout.setEncoding("utf8").on("data", (text) => (seen += text));
    const shows = (what: string | RegExp) =>
      until(() => (seen.search(what) >= 0 ? true : undefined));
    await shows("> ");
    seen = "";
    child.stdin.write("Write a very long story about the harbour and every boat in it.\n");
    await until(() => (seen.length > 150 ? true : undefined));
    child.stdin.write("\x03");
    await shows(/Stopping; what is done is kept/);
    await shows(/nothing was cut[\s\S]*> /);
    seen = "";
    child.stdin.write("\x03");
    await shows(/Ctrl\+C again or Ctrl\+D leaves/);
    child.stdin.write("\x04");
    const code = await new Promise((resolve) => child.once("close", resolve));
    expect(code).toBe(0);
  });

  test("needs a document", async () => {
    const { code, err } = await place.run(["chat", ...small]);
    expect(code).toBe(2);
    expect(err).toContain("error (usage): Which document?");
  });

  test("says when there is no such chat", async () => {
    const { code, err } = await place.run(["chat", file, "--chat", "00000000", ...small]);
    expect(code).toBe(1);
    expect(err).toContain("error (not_found): There is no chat 00000000.");
  });
});
