/** Chats, as JSON lines: the first line names the document, each further one is a turn. A line is
 * appended and flushed when its turn is over; one that a dying process cut short is left out when
 * the chat is read. */
import { randomUUID } from "node:crypto";
import { mkdir, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { ScholiaError } from "../../contract/errors.ts";
import type { ChatTurn } from "../../contract/routes.ts";

const headSchema = z.strictObject({
  version: z.literal(1),
  chat: z.string(),
  path: z.string(),
  pages: z.string().optional(),
  started: z.iso.datetime(),
});
const turnSchema = z.object({ question: z.string(), answer: z.string() });

const pathOf = (dataDir: string, chatId: string) => join(dataDir, "chats", `${chatId}.jsonl`);

export async function createChat(
  dataDir: string,
  document: { path: string; pages?: string | undefined },
): Promise<string> {
  const chatId = randomUUID();
  const head = { version: 1, chat: chatId, ...document, started: new Date().toISOString() };
  await mkdir(join(dataDir, "chats"), { recursive: true });
  await appendLine(pathOf(dataDir, chatId), head, "wx");
  return chatId;
}

/** @throws ScholiaError `invalid_argument` when there is no such chat. */
export async function loadTurns(dataDir: string, chatId: string): Promise<ChatTurn[]> {
  const text = await readFile(pathOf(dataDir, chatId), "utf8").catch(() => null);
  const [first, ...lines] = (text ?? "").split("\n").map(parseLine);
  if (!headSchema.safeParse(first).success) {
    throw new ScholiaError("invalid_argument", `There is no chat ${chatId}.`);
  }
  return lines.flatMap((line) => {
    const turn = turnSchema.safeParse(line);
    return turn.success ? [{ question: turn.data.question, answer: turn.data.answer }] : [];
  });
}

/** Adds a turn; what else the answer has (citations, certificate) is kept with it. */
export async function appendTurn(
  dataDir: string,
  chatId: string,
  turn: ChatTurn & Record<string, unknown>,
): Promise<void> {
  await appendLine(pathOf(dataDir, chatId), turn, "a");
}

async function appendLine(path: string, value: unknown, flags: "a" | "wx"): Promise<void> {
  const file = await open(path, flags === "a" ? "a+" : flags);
  try {
    // After a line that was cut short, begin a new one.
    const { size } = await file.stat();
    const last = size === 0 ? "\n" : await lastByte(file, size);
    await file.appendFile(`${last === "\n" ? "" : "\n"}${JSON.stringify(value)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function lastByte(file: Awaited<ReturnType<typeof open>>, size: number): Promise<string> {
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, size - 1);
  return buffer.toString("latin1");
}

function parseLine(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}
