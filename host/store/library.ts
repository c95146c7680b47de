/** Everything that is kept in the data folder's database, opened together. */
import { Chats } from "./chats.ts";
import { type Database, openDatabase } from "./database.ts";
import { Documents } from "./documents.ts";
import { importFiles } from "./importFiles.ts";
import { Rates } from "./rates.ts";
import { Reads } from "./reads.ts";
import { SettingsStore } from "./settings.ts";

export interface Library {
  documents: Documents;
  reads: Reads;
  chats: Chats;
  settings: SettingsStore;
  rates: Rates;
  database: Database;
  /** What the person should know of the opening. */
  notices: string[];
  close(): void;
}

/** @throws ScholiaError `library_broken`, `disk_full` */
export async function openLibrary(dataDir: string): Promise<Library> {
  const { database, notice } = await openDatabase(dataDir);
  const notices = notice === null ? [] : [notice];
  const { left } = await importFiles(database, dataDir);
  if (left.length > 0) {
    notices.push(
      `These files of an earlier version could not be read and were left: ${left.join(", ")}.`,
    );
  }
  const reads = new Reads(database, dataDir);
  const chats = new Chats(database);
  chats.markInterrupted();
  return {
    documents: new Documents(database, reads),
    reads,
    chats,
    settings: new SettingsStore(database),
    rates: new Rates(database),
    database,
    notices,
    close: () => database.close(),
  };
}
