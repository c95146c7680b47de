/** The documents of the library. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, realpath, stat } from "node:fs/promises";
import { basename } from "node:path";
import type { DocumentEntry, DocumentKind } from "../../contract/documents.ts";
import { ScholiaError } from "../../contract/errors.ts";
import { detectKind } from "../document/kind.ts";
import { defaultLimits } from "../document/parser.ts";
import type { Database } from "./database.ts";
import type { Reads } from "./reads.ts";

interface DocumentRow {
  id: string;
  path: string;
  name: string;
  title: string | null;
  file_title: string | null;
  kind: string;
  bytes: number;
  modified_ms: number;
  pages: number | null;
  added_at: string;
  last_use: string;
  chats: number;
}

/** What is found out when a document is opened. */
export interface OpenedFacts {
  id: string;
  path: string;
  name: string;
  kind: DocumentKind;
  fileTitle: string | null;
  pages: number;
}

export class Documents {
  private readonly database: Database;
  private readonly reads: Reads;

  constructor(database: Database, reads: Reads) {
    this.database = database;
    this.reads = reads;
  }

  /** In the order of their last use, the latest first. */
  async list(): Promise<DocumentEntry[]> {
    const rows = this.rows("WHERE removed_at IS NULL ORDER BY last_use DESC, id");
    return Promise.all(rows.map((row) => this.entry(row)));
  }

  /** @throws ScholiaError `not_found` */
  async get(id: string): Promise<DocumentEntry> {
    return this.entry(this.row(id));
  }

  /** A file enters the library; one that was taken out comes back with its chats and its name.
   * @throws ScholiaError `document_not_found`, `document_empty`, `document_too_large`,
   *   `document_unsupported`, `document_binary`, `document_broken` */
  async add(path: string): Promise<DocumentEntry> {
    const file = await inspect(path);
    const now = new Date().toISOString();
    this.database.run(
      `INSERT INTO documents (id, path, name, kind, bytes, modified_ms, added_at, last_use)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (id) DO UPDATE SET path = excluded.path, name = excluded.name,
         modified_ms = excluded.modified_ms, last_use = excluded.last_use, removed_at = NULL`,
      file.id,
      file.path,
      basename(file.path),
      file.kind,
      file.bytes,
      file.modifiedMs,
      now,
      now,
    );
    return this.get(file.id);
  }

  /** Writes down what opening a document found; one that is unknown enters the library. */
  async opened(facts: OpenedFacts): Promise<void> {
    const now = new Date().toISOString();
    const { size, mtimeMs } = await stat(facts.path);
    this.database.run(
      `INSERT INTO documents
         (id, path, name, file_title, kind, bytes, modified_ms, pages, added_at, last_use)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (id) DO UPDATE SET path = excluded.path, name = excluded.name,
         file_title = excluded.file_title, modified_ms = excluded.modified_ms,
         pages = excluded.pages, last_use = excluded.last_use, removed_at = NULL`,
      facts.id,
      facts.path,
      facts.name,
      facts.fileTitle,
      facts.kind,
      size,
      mtimeMs,
      facts.pages,
      now,
      now,
    );
  }

  /** Takes a document out of the list and its KV from the disk; its chats are kept. */
  async remove(id: string): Promise<void> {
    this.row(id);
    await this.reads.removeOfDocument(id);
    this.database.run(
      "UPDATE documents SET removed_at = ? WHERE id = ?",
      new Date().toISOString(),
      id,
    );
  }

  async rename(id: string, title: string): Promise<DocumentEntry> {
    this.row(id);
    this.database.run("UPDATE documents SET title = ? WHERE id = ?", title, id);
    return this.get(id);
  }

  /** Where the document's file lies.
   * @throws ScholiaError `not_found`; `document_not_found` when the file is gone or has other bytes */
  async locate(id: string): Promise<string> {
    const { path, name, file } = await this.get(id);
    if (file === "present") return path;
    const what = file === "missing" ? "is no longer at" : "has been changed at";
    throw new ScholiaError(
      "document_not_found",
      `${name} ${what} ${path}. What was read and asked is kept: show where the same file is now, or add the new one.`,
    );
  }

  private row(id: string): DocumentRow {
    const [row] = this.rows("WHERE id = ?", id);
    if (row !== undefined) return row;
    throw new ScholiaError("not_found", "This document is not in the library. Add it again.");
  }

  private rows(where: string, ...values: string[]): DocumentRow[] {
    return this.database.all<DocumentRow>(
      `SELECT *, (SELECT count(*) FROM chats WHERE document_id = documents.id) AS chats
       FROM documents ${where}`,
      ...values,
    );
  }

  private async entry(row: DocumentRow): Promise<DocumentEntry> {
    return {
      id: row.id,
      title: row.title ?? row.file_title ?? row.name,
      name: row.name,
      path: row.path,
      kind: row.kind as DocumentKind,
      bytes: row.bytes,
      pages: row.pages,
      file: await this.fileState(row),
      addedAt: row.added_at,
      lastUse: row.last_use,
      reads: this.reads.ofDocument(row.id),
      chats: row.chats,
    };
  }

  /** A file that was touched is read again: only other bytes are a change. */
  private async fileState(row: DocumentRow): Promise<DocumentEntry["file"]> {
    const found = await stat(row.path).catch(() => null);
    if (found === null || !found.isFile()) return "missing";
    if (found.size !== row.bytes) return "changed";
    if (found.mtimeMs === row.modified_ms) return "present";
    const id = await sha256Of(row.path).catch(() => null);
    if (id !== row.id) return "changed";
    this.database.run("UPDATE documents SET modified_ms = ? WHERE id = ?", found.mtimeMs, row.id);
    return "present";
  }
}

interface FoundFile {
  id: string;
  path: string;
  kind: DocumentKind;
  bytes: number;
  modifiedMs: number;
}

/** Looks at a file without parsing it. */
async function inspect(given: string): Promise<FoundFile> {
  const path = await realpath(given).catch(() => given);
  const name = basename(path);
  const found = await stat(path).catch(() => null);
  if (found === null) {
    throw new ScholiaError(
      "document_not_found",
      `${given} can't be opened: there is no such file.`,
    );
  }
  if (!found.isFile()) {
    throw new ScholiaError("document_unsupported", `${name} is a folder or no ordinary file.`);
  }
  if (found.size === 0) {
    throw new ScholiaError("document_empty", `${name} is empty (0 bytes).`);
  }
  if (found.size > defaultLimits.fileBytes) {
    const most = Math.floor(defaultLimits.fileBytes / 2 ** 20);
    throw new ScholiaError(
      "document_too_large",
      `${name} has ${Math.ceil(found.size / 2 ** 20)} MB; Scholia reads files up to ${most} MB. Split it and open a part.`,
    );
  }
  const kind = detectKind(await bothEnds(path, found.size), name);
  return { id: await sha256Of(path), path, kind, bytes: found.size, modifiedMs: found.mtimeMs };
}

const endBytes = 65_536;

/** As much of a file as its kind can be told from: its beginning and its end. */
async function bothEnds(path: string, size: number): Promise<Buffer> {
  const file = await open(path, "r");
  try {
    const length = Math.min(size, 2 * endBytes);
    const bytes = Buffer.alloc(length);
    const first = Math.min(length, endBytes);
    await file.read(bytes, 0, first, 0);
    await file.read(bytes, first, length - first, size - (length - first));
    return bytes;
  } finally {
    await file.close();
  }
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest("hex");
}
