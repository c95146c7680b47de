/** Chats as trees of turns. A turn is written down when it is asked, its text while it grows, its answer
 * when it ends: whenever a process dies, what was said is kept. */
import { randomUUID } from "node:crypto";
import type { Answer, Mode } from "../../contract/answer.ts";
import type { Chat, ChatEntry, Turn, TurnState } from "../../contract/chats.ts";
import { type ErrorValue, ScholiaError } from "../../contract/errors.ts";
import type { ChatTurn } from "../../contract/routes.ts";
import { sentencesOf } from "../answer/sentences.ts";
import type { Database } from "./database.ts";
import { isAlive, thisHost } from "./hostName.ts";

interface ChatRow {
  id: string;
  document_id: string | null;
  document_title: string | null;
  path: string;
  pages: string | null;
  title: string | null;
  first_question: string | null;
  shown_turn: string | null;
  turns: number;
  started_at: string;
  last_use: string;
}

interface TurnRow {
  id: string;
  parent_id: string | null;
  question: string;
  text: string;
  state: string;
  answer_json: string | null;
  error_json: string | null;
  run_id: string | null;
  mode: string;
  budget_tokens: number;
  pages: string | null;
  asked_at: string;
}

export interface NewTurn {
  question: string;
  /** Absent: the last turn of the branch that is shown. */
  parentId?: string | null | undefined;
  runId: string;
  mode: Mode;
  budgetTokens: number | null;
  pages: string | null;
}

/** What the column holds where no budget was chosen: it takes no null. */
export const noBudget = 0;

/** Where a chat's document is. */
export interface ChatDocument {
  documentId: string | null;
  path: string;
  pages: string | null;
}

const titleLength = 120;
const excerptReach = 60;

export class Chats {
  private readonly database: Database;

  constructor(database: Database) {
    this.database = database;
  }

  create(document: ChatDocument): string {
    const id = randomUUID();
    const now = new Date().toISOString();
    this.database.run(
      `INSERT INTO chats (id, document_id, path, pages, started_at, last_use)
       VALUES (?, ?, ?, ?, ?, ?)`,
      id,
      document.documentId,
      document.path,
      document.pages,
      now,
      now,
    );
    return id;
  }

  /** @throws ScholiaError `not_found` */
  documentOf(chatId: string): ChatDocument {
    const { document_id, path, pages } = this.row(chatId);
    return { documentId: document_id, path, pages };
  }

  /** A chat begun with a path learns which document that is. */
  bind(chatId: string, documentId: string): void {
    this.database.run(
      "UPDATE chats SET document_id = ? WHERE id = ? AND document_id IS NULL",
      documentId,
      chatId,
    );
  }

  /** Those of one document or all, the latest used first; with a query those whose title, questions or
   * answers hold all of its words. */
  list({
    documentId,
    query,
  }: {
    documentId?: string | undefined;
    query?: string | undefined;
  } = {}): ChatEntry[] {
    const rows = this.rows(
      "WHERE document_id IS NOT NULL AND (?1 IS NULL OR document_id = ?1)",
      documentId ?? null,
    );
    const words = (query ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length === 0) return rows.map(entry);
    return rows.flatMap((row) => {
      const found = excerptOf(this.textOf(row), words);
      return found === null ? [] : [{ ...entry(row), excerpt: found }];
    });
  }

  /** @throws ScholiaError `not_found` */
  get(chatId: string): Chat {
    const row = this.row(chatId);
    const tree = this.turnRows(chatId).map(turn);
    return { ...entry(row), shown: this.shownTurn(row), tree };
  }

  /** The questions and answers before a turn, from the root on. Turns without an answer are left out.
   * @param last the path's last turn; null for none
   * @throws ScholiaError `not_found` */
  path(chatId: string, last: string | null): ChatTurn[] {
    const byId = new Map(this.turnRows(chatId).map((row) => [row.id, row]));
    const turns: ChatTurn[] = [];
    for (let id = last; id !== null; ) {
      const row = byId.get(id);
      if (row === undefined) throw noSuchTurn();
      if (row.text !== "") turns.unshift({ question: row.question, answer: row.text });
      id = row.parent_id;
    }
    return turns;
  }

  /** The last turn of the branch that is shown. */
  shown(chatId: string): string | null {
    return this.shownTurn(this.row(chatId));
  }

  /** Shows the branch through this turn, down to its latest leaf.
   * @throws ScholiaError `not_found` */
  show(chatId: string, turnId: string): void {
    const rows = this.turnRows(chatId);
    if (!rows.some(({ id }) => id === turnId)) throw noSuchTurn();
    let leaf = turnId;
    for (;;) {
      const child = rows.findLast(({ parent_id }) => parent_id === leaf);
      if (child === undefined) break;
      leaf = child.id;
    }
    this.database.run("UPDATE chats SET shown_turn = ? WHERE id = ?", leaf, chatId);
  }

  rename(chatId: string, title: string): void {
    this.row(chatId);
    this.database.run("UPDATE chats SET title = ? WHERE id = ?", title, chatId);
  }

  remove(chatId: string): void {
    this.row(chatId);
    this.database.transaction(() => {
      // Children before parents: they refer to them.
      for (const { id } of this.turnRows(chatId).reverse()) {
        this.database.run("DELETE FROM turns WHERE id = ?", id);
      }
      this.database.run("DELETE FROM chats WHERE id = ?", chatId);
    });
  }

  /** Writes down a question and shows its branch.
   * @returns the turn's name and its parent's
   * @throws ScholiaError `not_found` */
  ask(chatId: string, question: NewTurn): { turnId: string; parentId: string | null } {
    const chat = this.row(chatId);
    const parentId = question.parentId === undefined ? this.shownTurn(chat) : question.parentId;
    const rows = this.turnRows(chatId);
    if (parentId !== null && !rows.some(({ id }) => id === parentId)) throw noSuchTurn();
    const turnId = randomUUID();
    const now = new Date().toISOString();
    this.database.transaction(() => {
      this.database.run(
        `INSERT INTO turns (id, chat_id, parent_id, position, question, state, run_id, host,
           mode, budget_tokens, pages, asked_at)
         VALUES (?, ?, ?, ?, ?, 'waiting', ?, ?, ?, ?, ?, ?)`,
        turnId,
        chatId,
        parentId,
        rows.length,
        question.question,
        question.runId,
        thisHost(),
        question.mode,
        question.budgetTokens ?? noBudget,
        question.pages,
        now,
      );
      this.database.run(
        "UPDATE chats SET shown_turn = ?, last_use = ? WHERE id = ?",
        turnId,
        now,
        chatId,
      );
    });
    return { turnId, parentId };
  }

  /** Keeps what is written so far. */
  writing(turnId: string, text: string): void {
    this.database.run("UPDATE turns SET text = ?, state = 'writing' WHERE id = ?", text, turnId);
  }

  answered(turnId: string, answer: Answer, readMap: Uint8Array | null): void {
    const state: TurnState = answer.stop === "cancelled" ? "stopped" : "answered";
    this.database.run(
      `UPDATE turns SET text = ?, state = ?, answer_json = ?, read_map = ?, pages = ?,
         run_id = NULL, host = NULL WHERE id = ?`,
      answer.answer,
      state,
      JSON.stringify(answer),
      readMap,
      answer.coverage.pages,
      turnId,
    );
  }

  failed(turnId: string, error: ErrorValue): void {
    this.database.run(
      `UPDATE turns SET state = ?, error_json = ?, run_id = NULL, host = NULL WHERE id = ?`,
      error.code === "cancelled" ? "stopped" : "failed",
      JSON.stringify(error),
      turnId,
    );
  }

  /** Turns that a host was at when it ended are marked so; their text is kept. */
  markInterrupted(): void {
    const open = this.database.all<{ id: string; host: string | null }>(
      "SELECT id, host FROM turns WHERE state IN ('waiting', 'writing')",
    );
    for (const { id, host } of open) {
      if (host !== null && isAlive(host)) continue;
      this.database.run(
        "UPDATE turns SET state = 'interrupted', run_id = NULL, host = NULL WHERE id = ?",
        id,
      );
    }
  }

  /** @returns null when none was kept
   * @throws ScholiaError `not_found` */
  readMap(turnId: string): { bytes: Uint8Array | null; text: string } {
    const row = this.database.first<{ read_map: Uint8Array | null; text: string }>(
      "SELECT read_map, text FROM turns WHERE id = ?",
      turnId,
    );
    if (row === undefined) throw noSuchTurn();
    return { bytes: row.read_map, text: row.text };
  }

  /** The turn that was shown last, as long as it is there. */
  private shownTurn({ id, shown_turn }: ChatRow): string | null {
    const rows = this.turnRows(id);
    if (rows.some((row) => row.id === shown_turn)) return shown_turn;
    return rows.at(-1)?.id ?? null;
  }

  private textOf(row: ChatRow): string {
    const turns = this.turnRows(row.id).map(({ question, text }) => `${question}\n${text}`);
    return [row.title ?? "", ...turns].join("\n");
  }

  private row(chatId: string): ChatRow {
    const [row] = this.rows("WHERE chats.id = ?", chatId);
    if (row !== undefined) return row;
    throw new ScholiaError("not_found", `There is no chat ${chatId}.`);
  }

  private rows(where: string, ...values: (string | null)[]): ChatRow[] {
    return this.database.all<ChatRow>(
      `SELECT chats.*, coalesce(documents.title, documents.file_title, documents.name)
           AS document_title,
         (SELECT count(*) FROM turns WHERE chat_id = chats.id) AS turns,
         (SELECT question FROM turns WHERE chat_id = chats.id AND position = 0) AS first_question
       FROM chats LEFT JOIN documents ON documents.id = chats.document_id
       ${where} ORDER BY chats.last_use DESC, chats.id`,
      ...values,
    );
  }

  private turnRows(chatId: string): TurnRow[] {
    return this.database.all<TurnRow>(
      `SELECT id, parent_id, question, text, state, answer_json, error_json, run_id, mode,
         budget_tokens, pages, asked_at
       FROM turns WHERE chat_id = ? ORDER BY position`,
      chatId,
    );
  }
}

function noSuchTurn(): ScholiaError {
  return new ScholiaError("not_found", "This turn is not in the chat.");
}

function entry(row: ChatRow): ChatEntry {
  const first = row.first_question?.replace(/\s+/g, " ").trim() ?? "";
  return {
    id: row.id,
    documentId: row.document_id ?? "",
    documentTitle: row.document_title ?? row.path,
    title: row.title ?? (first === "" ? "New chat" : first.slice(0, titleLength)),
    pages: row.pages,
    turns: row.turns,
    startedAt: row.started_at,
    lastUse: row.last_use,
  };
}

function turn(row: TurnRow): Turn {
  return {
    id: row.id,
    parentId: row.parent_id,
    question: row.question,
    text: row.text,
    sentences: sentencesOf(row.text),
    state: row.state as TurnState,
    answer: row.answer_json === null ? null : (JSON.parse(row.answer_json) as Answer),
    error: row.error_json === null ? null : (JSON.parse(row.error_json) as ErrorValue),
    runId: row.run_id,
    mode: row.mode as Mode,
    budgetTokens: row.budget_tokens === noBudget ? null : row.budget_tokens,
    pages: row.pages,
    askedAt: row.asked_at,
  };
}

/** What stands around the first of the words; null unless the text holds all of them. */
function excerptOf(text: string, words: string[]): string | null {
  const folded = text.toLowerCase();
  const places = words.map((word) => folded.indexOf(word));
  if (places.some((place) => place < 0)) return null;
  const [first = 0] = places;
  const from = Math.max(0, first - excerptReach);
  const until = first + excerptReach;
  const cut = text.slice(from, until).replace(/\s+/g, " ").trim();
  return `${from > 0 ? "…" : ""}${cut}${until < text.length ? "…" : ""}`;
}
