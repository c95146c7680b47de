/** The rows of the prefill queue: they outlive the process that reads. */
import { randomUUID } from "node:crypto";
import { type ErrorValue, ScholiaError } from "../../contract/errors.ts";
import type { QueueState } from "../../contract/queue.ts";
import type { EngineSettings } from "../../contract/routes.ts";
import type { Database, Value } from "./database.ts";
import { isAlive, thisHost } from "./hostName.ts";

export interface QueueRow {
  id: string;
  documentId: string;
  title: string;
  documentPages: number | null;
  pages: string | null;
  engine: EngineSettings;
  maxTokens: number;
  state: QueueState;
  doneTokens: number;
  totalTokens: number | null;
  pagesRead: string | null;
  error: ErrorValue | null;
  addedAt: string;
}

interface StoredRow {
  id: string;
  document_id: string;
  title: string;
  document_pages: number | null;
  pages: string | null;
  engine_json: string;
  max_tokens: number;
  state: string;
  done_tokens: number;
  total_tokens: number | null;
  pages_read: string | null;
  error_json: string | null;
  host: string | null;
  added_at: string;
}

export type QueueChange = Partial<
  Pick<QueueRow, "state" | "doneTokens" | "totalTokens" | "pagesRead" | "error">
>;

export class QueueRows {
  private readonly database: Database;

  constructor(database: Database) {
    this.database = database;
  }

  /** In the order of reading. */
  list(): QueueRow[] {
    return this.rows("").map(queueRow);
  }

  /** @throws ScholiaError `not_found` */
  get(id: string): QueueRow {
    const [row] = this.rows("WHERE queue.id = ?", id);
    if (row === undefined) throw new ScholiaError("not_found", "This read is not in the queue.");
    return queueRow(row);
  }

  add(row: Pick<QueueRow, "documentId" | "pages" | "engine" | "maxTokens">): string {
    const id = randomUUID();
    this.database.run(
      `INSERT INTO queue (id, position, document_id, pages, engine_json, max_tokens, state, added_at)
       VALUES (?, (SELECT coalesce(max(position), 0) + 1 FROM queue), ?, ?, ?, ?, 'waiting', ?)`,
      id,
      row.documentId,
      row.pages,
      JSON.stringify(row.engine),
      row.maxTokens,
      new Date().toISOString(),
    );
    return id;
  }

  change(id: string, change: QueueChange): void {
    const columns: Record<string, Value | undefined> = {
      state: change.state,
      done_tokens: change.doneTokens,
      total_tokens: change.totalTokens,
      pages_read: change.pagesRead,
      error_json:
        change.error === undefined ? undefined : change.error && JSON.stringify(change.error),
    };
    for (const [column, value] of Object.entries(columns)) {
      if (value === undefined) continue;
      this.database.run(`UPDATE queue SET ${column} = ? WHERE id = ?`, value, id);
    }
  }

  /** The next one to read, now this host's; undefined when none waits. */
  claimNext(): QueueRow | undefined {
    return this.database.transaction(() => {
      const [next] = this.rows("WHERE state IN ('yielding', 'waiting') AND host IS NULL");
      if (next === undefined) return undefined;
      this.database.run(
        "UPDATE queue SET state = 'reading', host = ? WHERE id = ?",
        thisHost(),
        next.id,
      );
      return { ...queueRow(next), state: "reading" };
    });
  }

  giveBack(id: string): void {
    this.database.run("UPDATE queue SET host = NULL WHERE id = ?", id);
  }

  toHead(id: string): void {
    this.database.run(
      "UPDATE queue SET position = (SELECT min(position) - 1 FROM queue) WHERE id = ?",
      id,
    );
  }

  remove(id: string): void {
    this.database.run("DELETE FROM queue WHERE id = ?", id);
  }

  /** What a host was reading when it died waits again; what was done is over. */
  recover(): void {
    const mine = this.rows("WHERE queue.host IS NOT NULL");
    for (const { id, host } of mine) {
      if (host !== null && isAlive(host)) continue;
      this.database.run("UPDATE queue SET state = 'waiting', host = NULL WHERE id = ?", id);
    }
    this.database.run("DELETE FROM queue WHERE state = 'done'");
  }

  private rows(where: string, ...values: string[]): StoredRow[] {
    return this.database.all<StoredRow>(
      `SELECT queue.*, coalesce(documents.title, documents.file_title, documents.name) AS title,
         documents.pages AS document_pages
       FROM queue JOIN documents ON documents.id = queue.document_id ${where}
       ORDER BY (state = 'yielding') DESC, position`,
      ...values,
    );
  }
}

function queueRow(row: StoredRow): QueueRow {
  return {
    id: row.id,
    documentId: row.document_id,
    title: row.title,
    documentPages: row.document_pages,
    pages: row.pages,
    engine: JSON.parse(row.engine_json) as EngineSettings,
    maxTokens: row.max_tokens,
    state: row.state as QueueState,
    doneTokens: row.done_tokens,
    totalTokens: row.total_tokens,
    pagesRead: row.pages_read,
    error: row.error_json === null ? null : (JSON.parse(row.error_json) as ErrorValue),
    addedAt: row.added_at,
  };
}
