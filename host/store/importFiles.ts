/** Brings the files of earlier versions into the database: a JSON manifest for each document
 * (`library/`), JSON lines for each chat (`chats/`). A file that was brought in is renamed and kept;
 * one that can't be understood stays where it is. */
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rename, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import { modes } from "../../contract/answer.ts";
import { defaultSettings } from "../../contract/settings.ts";
import { noBudget } from "./chats.ts";
import type { Database } from "./database.ts";
import { runTokens, storeDir } from "./reads.ts";

const manifestSchema = z.object({
  version: z.literal(1),
  document: z.object({
    id: z.string(),
    path: z.string(),
    title: z.string(),
    kind: z.string(),
    pages: z.int().nonnegative(),
  }),
  reads: z.array(
    z.object({
      key: z.string(),
      model: z.object({ name: z.string(), fingerprint: z.string() }),
      pages: z.string(),
      chunkTokens: z.int().positive(),
      tokens: z.int().nonnegative(),
      documentTokens: z.int().nonnegative(),
      complete: z.boolean(),
      runs: z.array(z.string()),
      lastUse: z.iso.datetime(),
    }),
  ),
});

const chatHeadSchema = z.object({
  version: z.literal(1),
  chat: z.string(),
  path: z.string(),
  pages: z.string().optional(),
  started: z.iso.datetime(),
});
/** A turn is its question with the fields of the answer. */
const chatTurnSchema = z.looseObject({
  question: z.string(),
  answer: z.string(),
  stop: z.string().optional(),
  coverage: z.looseObject({ mode: z.enum(modes), budgetTokens: z.int().nullable() }).optional(),
  document: z.looseObject({ id: z.string() }).optional(),
});

/** @returns how many files were brought in, and those that could not be */
export async function importFiles(
  database: Database,
  dataDir: string,
): Promise<{ imported: number; left: string[] }> {
  const outcome = { imported: 0, left: [] as string[] };
  const take = async (
    folder: string,
    ending: string,
    enter: (text: string) => Promise<boolean>,
  ) => {
    const names = await readdir(join(dataDir, folder)).catch(() => [] as string[]);
    for (const name of names.filter((name) => name.endsWith(ending)).sort()) {
      const path = join(dataDir, folder, name);
      if (await enter(await readFile(path, "utf8"))) {
        await keep(path, join(dataDir, `${folder}-imported`));
        outcome.imported++;
      } else {
        outcome.left.push(path);
      }
    }
  };
  await take("library", ".json", (text) => enterManifest(database, dataDir, text));
  await take("chats", ".jsonl", async (text) => enterChat(database, text));
  return outcome;
}

async function keep(path: string, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  await rename(path, join(folder, basename(path)));
}

async function enterManifest(database: Database, dataDir: string, text: string): Promise<boolean> {
  const parsed = manifestSchema.safeParse(readJson(text));
  if (!parsed.success) return false;
  const { document, reads } = parsed.data;
  const file = await stat(document.path).catch(() => null);
  const sizes = await sizesOf(reads.map((read) => filesOf(dataDir, read)));
  const now = new Date().toISOString();
  const lastUse =
    reads
      .map((read) => read.lastUse)
      .sort()
      .at(-1) ?? now;
  database.transaction(() => {
    database.run(
      `INSERT OR IGNORE INTO documents
         (id, path, name, file_title, kind, bytes, modified_ms, pages, added_at, last_use)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      document.id,
      document.path,
      basename(document.path),
      document.title,
      document.kind,
      file?.size ?? 0,
      // Of the file as it is now nothing is known: it is looked at when the library is listed.
      0,
      document.pages,
      lastUse,
      lastUse,
    );
    reads.forEach((read, index) => {
      const isNew = database.run(
        `INSERT OR IGNORE INTO reads (key, document_id, model_name, model_fingerprint, pages,
           chunk_tokens, tokens, document_tokens, stored_tokens, complete, made_at, last_use)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        read.key,
        document.id,
        read.model.name,
        read.model.fingerprint,
        read.pages,
        read.chunkTokens,
        read.tokens,
        read.documentTokens,
        Math.min(read.tokens, read.runs.length * runTokens),
        read.complete ? 1 : 0,
        read.lastUse,
        read.lastUse,
      );
      if (isNew === 0) return;
      read.runs.forEach((run, position) => {
        database.run(
          "INSERT INTO runs (read_key, position, file, bytes) VALUES (?, ?, ?, ?)",
          read.key,
          position,
          run,
          sizes[index]?.[position] ?? 0,
        );
      });
    });
  });
  return true;
}

function filesOf(
  dataDir: string,
  read: { model: { fingerprint: string }; runs: string[] },
): string[] {
  // A manifest is a file like any other: names in it lead nowhere else.
  return read.runs.map((run) => join(storeDir(dataDir, read.model.fingerprint), basename(run)));
}

function sizesOf(reads: string[][]): Promise<number[][]> {
  const sizeOf = async (path: string) => (existsSync(path) ? (await stat(path)).size : 0);
  return Promise.all(reads.map((paths) => Promise.all(paths.map(sizeOf))));
}

function enterChat(database: Database, text: string): boolean {
  const [head, ...lines] = text.split("\n").map(readJson);
  const chat = chatHeadSchema.safeParse(head);
  if (!chat.success) return false;
  const { chat: id, path, pages = null, started } = chat.data;
  // A line that a dying process cut short is no turn.
  const turns = lines.flatMap((line) => {
    const turn = chatTurnSchema.safeParse(line);
    return turn.success ? [turn.data] : [];
  });
  const named = turns.findLast((turn) => turn.document !== undefined)?.document?.id;
  const documentId = database.first<{ id: string }>(
    "SELECT id FROM documents WHERE id = ? OR path = ? ORDER BY id = ? DESC",
    named ?? "",
    path,
    named ?? "",
  )?.id;
  database.transaction(() => {
    const isNew = database.run(
      `INSERT OR IGNORE INTO chats (id, document_id, path, pages, started_at, last_use)
       VALUES (?, ?, ?, ?, ?, ?)`,
      id,
      documentId ?? null,
      path,
      pages,
      started,
      started,
    );
    if (isNew === 0) return;
    let parent: string | null = null;
    turns.forEach((turn, position) => {
      const turnId = `${id}-${position}`;
      const { question, ...answer } = turn;
      database.run(
        `INSERT INTO turns (id, chat_id, parent_id, position, question, text, state, answer_json,
           mode, budget_tokens, pages, asked_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        turnId,
        id,
        parent,
        position,
        question,
        turn.answer,
        turn.stop === "cancelled" ? "stopped" : "answered",
        // Without a certificate it is only a text.
        turn.coverage === undefined ? null : JSON.stringify(answer),
        turn.coverage?.mode ?? defaultSettings.mode,
        turn.coverage?.budgetTokens ?? noBudget,
        pages,
        started,
      );
      parent = turnId;
    });
  });
  return true;
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
