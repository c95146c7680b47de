/** The database of the data folder: documents, reads, chats, queue, settings, measured rates. SQLite
 * in WAL mode, so that several hosts (a window's and a command line's) may use one folder. The KV of
 * reads is not in it: it lies in run files, and losing the database loses none of it. */
import { existsSync } from "node:fs";
import { rename } from "node:fs/promises";
import { dirname, join } from "node:path";
import { DatabaseSync, type DatabaseSyncInstance } from "@photostructure/sqlite";
import { ScholiaError } from "../../contract/errors.ts";
import { migrations } from "./migrations.ts";

export type Value = string | number | null | Uint8Array;
export type Row = Record<string, Value>;

/** Another process may hold the database for a moment. */
const busyTimeoutMs = 10_000;

export class Database {
  private readonly connection: DatabaseSyncInstance;

  constructor(connection: DatabaseSyncInstance) {
    this.connection = connection;
  }

  /** @returns rows changed
   * @throws ScholiaError `disk_full`, `library_broken` */
  run(sql: string, ...values: Value[]): number {
    return guarded(() => {
      const { changes } = this.connection.prepare(sql).run(...values);
      return Number(changes);
    });
  }

  all<R extends object = Row>(sql: string, ...values: Value[]): R[] {
    return guarded(() => this.connection.prepare(sql).all(...values) as R[]);
  }

  first<R extends object = Row>(sql: string, ...values: Value[]): R | undefined {
    return guarded(() => this.connection.prepare(sql).get(...values) as R | undefined);
  }

  /** All of the work happens, or nothing of it. Not to be nested. */
  transaction<T>(work: () => T): T {
    this.run("BEGIN IMMEDIATE");
    try {
      const result = work();
      this.run("COMMIT");
      return result;
    } catch (error) {
      this.run("ROLLBACK");
      throw error;
    }
  }

  close(): void {
    this.connection.close();
  }
}

export const databasePath = (dataDir: string): string => join(dataDir, "scholia.db");

export interface OpenedDatabase {
  database: Database;
  /** What the person should know: that a damaged database was set aside, and where. */
  notice: string | null;
}

/** Opens the folder's database, makes it if there is none, and brings it to this version. A damaged
 * one is set aside, never deleted, and a new one is made.
 * @throws ScholiaError `library_broken` for one of a later version; `disk_full` */
export async function openDatabase(dataDir: string): Promise<OpenedDatabase> {
  const path = databasePath(dataDir);
  try {
    return { database: openSound(path), notice: null };
  } catch (error) {
    if (!isDamage(error)) throw toScholiaError(error);
  }
  const aside = await setAside(path);
  const notice =
    `The library's database was damaged and is kept as ${aside}; a new one was begun. ` +
    "What was read lies beside it and is found again when its document is opened; chats in the damaged file are not listed.";
  return { database: openSound(path), notice };
}

function openSound(path: string): Database {
  const connection = new DatabaseSync(path, { timeout: busyTimeoutMs });
  try {
    // The answer of a pragma is a row, so it is read and not run.
    connection.prepare("PRAGMA journal_mode = WAL").get();
    connection.exec("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;");
    const { quick_check: check } = connection.prepare("PRAGMA quick_check(1)").get() as {
      quick_check: string;
    };
    if (check !== "ok") throw Object.assign(new Error(check), { errcode: corrupt });
    migrate(connection, path);
    return new Database(connection);
  } catch (error) {
    connection.close();
    throw error;
  }
}

/** Each migration is done whole or not at all, and by one process only. */
function migrate(connection: DatabaseSyncInstance, path: string): void {
  const version = () =>
    (connection.prepare("PRAGMA user_version").get() as { user_version: number }).user_version;
  if (version() > migrations.length) {
    throw new ScholiaError(
      "library_broken",
      `${path} was written by a later version of Scholia (${version()}; this one reads up to ${migrations.length}). Use that version, or name another data folder with --data.`,
    );
  }
  while (version() < migrations.length) {
    connection.exec("BEGIN IMMEDIATE");
    try {
      // Another process may have been first.
      const next = migrations[version()];
      if (next !== undefined) {
        connection.exec(next);
        connection.exec(`PRAGMA user_version = ${version() + 1}`);
      }
      connection.exec("COMMIT");
    } catch (error) {
      connection.exec("ROLLBACK");
      throw error;
    }
  }
}

/** @returns the new place of the database's main file */
async function setAside(path: string): Promise<string> {
  const stamp = new Date().toISOString().replace(/[:.]/g, "-");
  const aside = join(dirname(path), `scholia-damaged-${stamp}.db`);
  for (const ending of ["", "-wal", "-shm"]) {
    if (existsSync(path + ending)) await rename(path + ending, aside + ending);
  }
  return aside;
}

// Result codes of SQLite (sqlite.org/rescode.html).
const corrupt = 11;
const full = 13;
const notADatabase = 26;

function resultCode(error: unknown): number | undefined {
  const code = (error as { errcode?: unknown } | null)?.errcode;
  // The low byte is the primary code.
  return typeof code === "number" ? code & 0xff : undefined;
}

function isDamage(error: unknown): boolean {
  const code = resultCode(error);
  return code === corrupt || code === notADatabase;
}

function guarded<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw toScholiaError(error);
  }
}

function toScholiaError(error: unknown): unknown {
  if (resultCode(error) === full) {
    return new ScholiaError(
      "disk_full",
      "The disk of the data folder is full. Make room there, or name another folder with --data.",
    );
  }
  if (isDamage(error)) {
    return new ScholiaError(
      "library_broken",
      "The library's database is damaged. Start Scholia again: it sets the damaged file aside and begins a new one.",
    );
  }
  return error;
}
