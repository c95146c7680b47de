/** The database's tables, as the steps that lead to them: number n brings a database of version n to
 * n + 1. Steps that were released are never changed.
 *
 * Times are ISO 8601 in UTC; what ends in `_json` is a value of the contract. */
export const migrations: readonly string[] = [
  `
  CREATE TABLE documents (
    id TEXT PRIMARY KEY,            -- SHA-256 of the file's bytes
    path TEXT NOT NULL,
    name TEXT NOT NULL,
    title TEXT,                     -- the reader's own
    file_title TEXT,                -- the file's own
    kind TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    modified_ms REAL NOT NULL,      -- of the file, when it had these bytes
    pages INTEGER,                  -- of the whole document; null until it was opened
    added_at TEXT NOT NULL,
    last_use TEXT NOT NULL,
    removed_at TEXT                 -- out of the list, its chats kept
  ) STRICT;

  CREATE TABLE reads (
    key TEXT PRIMARY KEY,           -- the hash chain's name at the read's end
    document_id TEXT NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    model_name TEXT NOT NULL,
    model_fingerprint TEXT NOT NULL,
    pages TEXT NOT NULL,
    chunk_tokens INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    document_tokens INTEGER NOT NULL,
    stored_tokens INTEGER NOT NULL,
    complete INTEGER NOT NULL,
    pinned INTEGER NOT NULL DEFAULT 0,
    made_at TEXT NOT NULL,
    last_use TEXT NOT NULL,
    UNIQUE (document_id, model_fingerprint, pages, chunk_tokens)
  ) STRICT;

  CREATE TABLE runs (               -- the run files of a read, in order; reads share them
    read_key TEXT NOT NULL REFERENCES reads(key) ON DELETE CASCADE ON UPDATE CASCADE,
    position INTEGER NOT NULL,
    file TEXT NOT NULL,             -- in reads/<model>/
    bytes INTEGER NOT NULL,
    PRIMARY KEY (read_key, position)
  ) STRICT;
  CREATE INDEX runs_by_file ON runs(file);

  CREATE TABLE chats (
    id TEXT PRIMARY KEY,
    document_id TEXT REFERENCES documents(id),
    path TEXT NOT NULL,
    pages TEXT,
    title TEXT,
    shown_turn TEXT,
    started_at TEXT NOT NULL,
    last_use TEXT NOT NULL
  ) STRICT;
  CREATE INDEX chats_by_document ON chats(document_id);

  CREATE TABLE turns (
    id TEXT PRIMARY KEY,
    chat_id TEXT NOT NULL REFERENCES chats(id) ON DELETE CASCADE,
    parent_id TEXT REFERENCES turns(id),
    position INTEGER NOT NULL,      -- in the order of asking
    question TEXT NOT NULL,
    text TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL,
    answer_json TEXT,
    error_json TEXT,
    run_id TEXT,
    host TEXT,                      -- which host process writes it
    mode TEXT NOT NULL,
    budget_tokens INTEGER NOT NULL,
    pages TEXT,
    read_map BLOB,
    asked_at TEXT NOT NULL
  ) STRICT;
  CREATE INDEX turns_by_chat ON turns(chat_id, position);

  CREATE TABLE queue (
    id TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    document_id TEXT NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    pages TEXT,
    engine_json TEXT NOT NULL,
    max_tokens INTEGER NOT NULL,
    state TEXT NOT NULL,
    done_tokens INTEGER NOT NULL DEFAULT 0,
    total_tokens INTEGER,
    pages_read TEXT,                -- read to their end
    error_json TEXT,
    host TEXT,                      -- which host process reads it
    added_at TEXT NOT NULL
  ) STRICT;

  CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value_json TEXT NOT NULL
  ) STRICT;

  CREATE TABLE rates (
    id INTEGER PRIMARY KEY,
    model_name TEXT NOT NULL,
    model_fingerprint TEXT NOT NULL,
    device TEXT NOT NULL,
    what TEXT NOT NULL,
    depth INTEGER NOT NULL,
    budget_tokens INTEGER,
    tokens_per_second REAL NOT NULL,
    tokens INTEGER NOT NULL,
    measured_at TEXT NOT NULL
  ) STRICT;
  CREATE INDEX rates_by_model ON rates(model_fingerprint, device, what, id);
  `,
];
