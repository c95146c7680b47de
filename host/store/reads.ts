/** Reads: which KV of which document lies on the disk, and how much room it takes. The KV itself is the
 * engine's run files, which reads that begin alike share. */
import { readdir, rm, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import type { ReadEntry, ReadStore } from "../../contract/documents.ts";
import { ScholiaError } from "../../contract/errors.ts";
import type { Database } from "./database.ts";

/** Where the engine keeps the KV of reads made with this model. */
export function storeDir(dataDir: string, fingerprint: string): string {
  return join(dataDir, "reads", fingerprint.slice(0, 16));
}

/** Tokens of a run file (docs/kv_files.md). */
export const runTokens = 1024;

export interface NewRead {
  key: string;
  documentId: string;
  model: { name: string; fingerprint: string };
  /** As `--pages` takes them. */
  pages: string;
  chunkTokens: number;
  tokens: number;
  documentTokens: number;
  /** Tokens whose KV is in the files. */
  storedTokens: number;
  complete: boolean;
  /** Names of the run files, in order. */
  runs: { file: string; bytes: number }[];
}

interface ReadRow {
  key: string;
  document_id: string;
  document_title: string;
  model_name: string;
  model_fingerprint: string;
  pages: string;
  tokens: number;
  document_tokens: number;
  stored_tokens: number;
  complete: number;
  pinned: number;
  bytes: number;
  made_at: string;
  last_use: string;
}

export class Reads {
  private readonly database: Database;
  private readonly dataDir: string;

  constructor(database: Database, dataDir: string) {
    this.database = database;
    this.dataDir = dataDir;
  }

  /** Enters a read in place of an earlier one of the same pages, model and chunk size. */
  enter(read: NewRead): void {
    const now = new Date().toISOString();
    this.database.transaction(() => {
      const earlier = this.database.first<{ pinned: number; made_at: string }>(
        `DELETE FROM reads WHERE key = ?1 OR (document_id = ?2 AND model_fingerprint = ?3
           AND pages = ?4 AND chunk_tokens = ?5) RETURNING pinned, made_at`,
        read.key,
        read.documentId,
        read.model.fingerprint,
        read.pages,
        read.chunkTokens,
      );
      this.database.run(
        `INSERT INTO reads (key, document_id, model_name, model_fingerprint, pages, chunk_tokens,
           tokens, document_tokens, stored_tokens, complete, pinned, made_at, last_use)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        read.key,
        read.documentId,
        read.model.name,
        read.model.fingerprint,
        read.pages,
        read.chunkTokens,
        read.tokens,
        read.documentTokens,
        read.storedTokens,
        read.complete ? 1 : 0,
        earlier?.pinned ?? 0,
        earlier?.made_at ?? now,
        now,
      );
      read.runs.forEach(({ file, bytes }, position) => {
        this.database.run(
          "INSERT INTO runs (read_key, position, file, bytes) VALUES (?, ?, ?, ?)",
          read.key,
          position,
          file,
          bytes,
        );
      });
    });
  }

  ofDocument(documentId: string): ReadEntry[] {
    return this.rows("WHERE document_id = ?", documentId).map(entry);
  }

  /** All reads, the latest used first, and the room that all KV takes. */
  async store(limitBytes: number | null): Promise<ReadStore> {
    const folder = join(this.dataDir, "reads");
    const { bavail, bsize } = await statfs(this.dataDir);
    return {
      reads: this.rows("").map(entry),
      bytes: (await this.runFiles()).reduce((sum, { bytes }) => sum + bytes, 0),
      limitBytes,
      freeBytes: bavail * bsize,
      folder,
    };
  }

  /** @throws ScholiaError `not_found` */
  pin(key: string, pinned: boolean): void {
    if (this.database.run("UPDATE reads SET pinned = ? WHERE key = ?", pinned ? 1 : 0, key) === 0) {
      throw noSuchRead();
    }
  }

  /** Deletes a read and those of its files that no other read has.
   * @throws ScholiaError `not_found` */
  async remove(key: string): Promise<void> {
    const read = this.database.first<{ model_fingerprint: string }>(
      "SELECT model_fingerprint FROM reads WHERE key = ?",
      key,
    );
    if (read === undefined) throw noSuchRead();
    const own = this.database.all<{ file: string }>(
      `SELECT file FROM runs WHERE read_key = ?1
         AND file NOT IN (SELECT file FROM runs WHERE read_key <> ?1)`,
      key,
    );
    this.database.run("DELETE FROM reads WHERE key = ?", key);
    const folder = storeDir(this.dataDir, read.model_fingerprint);
    for (const { file } of own) await rm(join(folder, file), { force: true });
  }

  async removeOfDocument(documentId: string): Promise<void> {
    for (const { key } of this.ofDocument(documentId)) await this.remove(key);
  }

  /** Makes room under the limit: first files that no read has and nobody has used for a day, then the
   * reads that were used longest ago. Pinned reads and those of `keep` stay.
   * @returns the reads that were removed */
  async makeRoom(limitBytes: number, keep: readonly string[] = []): Promise<ReadEntry[]> {
    let files = await this.runFiles();
    let total = files.reduce((sum, { bytes }) => sum + bytes, 0);
    if (total <= limitBytes) return [];
    for (const file of files.filter(({ path }) => !this.isKnown(path))) {
      if (total <= limitBytes) return [];
      if (Date.now() - file.modifiedMs < orphanAgeMs) continue;
      await rm(file.path, { force: true });
      total -= file.bytes;
    }
    const removed: ReadEntry[] = [];
    const oldest = this.rows("WHERE pinned = 0").reverse();
    for (const row of oldest) {
      if (total <= limitBytes) break;
      if (keep.includes(row.key)) continue;
      await this.remove(row.key);
      removed.push(entry(row));
      files = await this.runFiles();
      total = files.reduce((sum, { bytes }) => sum + bytes, 0);
    }
    return removed;
  }

  private isKnown(path: string): boolean {
    const file = path.split(/[/\\]/).at(-1) ?? path;
    return this.database.first("SELECT 1 FROM runs WHERE file = ?", file) !== undefined;
  }

  private async runFiles(): Promise<{ path: string; bytes: number; modifiedMs: number }[]> {
    const folder = join(this.dataDir, "reads");
    const names = await readdir(folder, { recursive: true }).catch(() => [] as string[]);
    const files = await Promise.all(
      names
        .filter((name) => name.endsWith(".kv"))
        .map(async (name) => {
          const path = join(folder, name);
          const found = await stat(path).catch(() => null);
          return found && { path, bytes: found.size, modifiedMs: found.mtimeMs };
        }),
    );
    return files.filter((file) => file !== null);
  }

  private rows(where: string, ...values: string[]): ReadRow[] {
    return this.database.all<ReadRow>(
      `SELECT reads.*, coalesce(documents.title, documents.file_title, documents.name)
           AS document_title,
         (SELECT coalesce(sum(runs.bytes), 0) FROM runs WHERE read_key = reads.key) AS bytes
       FROM reads JOIN documents ON documents.id = reads.document_id ${where}
       ORDER BY reads.last_use DESC, reads.key`,
      ...values,
    );
  }
}

/** A file may belong to a read that goes on in another process. */
const orphanAgeMs = 24 * 3600 * 1000;

function noSuchRead(): ScholiaError {
  return new ScholiaError("not_found", "This read is no longer on the disk.");
}

function entry(row: ReadRow): ReadEntry {
  return {
    key: row.key,
    documentId: row.document_id,
    documentTitle: row.document_title,
    model: { name: row.model_name, fingerprint: row.model_fingerprint },
    pages: row.pages,
    tokens: row.tokens,
    documentTokens: row.document_tokens,
    storedTokens: row.stored_tokens,
    complete: row.complete === 1,
    bytes: row.bytes,
    madeAt: row.made_at,
    lastUse: row.last_use,
    pinned: row.pinned === 1,
  };
}
