/** What the person has chosen. */
import { defaultSettings, type Settings, settingsSchema } from "../../contract/settings.ts";
import type { Database } from "./database.ts";

export class SettingsStore {
  private readonly database: Database;

  constructor(database: Database) {
    this.database = database;
  }

  /** A value that this version does not understand counts as not chosen; it stays in the database. */
  get(): Settings {
    const rows = this.database.all<{ name: string; value_json: string }>(
      "SELECT name, value_json FROM settings",
    );
    const chosen = rows.flatMap(({ name, value_json }) => {
      const value = readJson(value_json);
      const parsed = settingsSchema.partial().safeParse({ [name]: value });
      return value !== undefined && parsed.success ? [parsed.data] : [];
    });
    return Object.assign({ ...defaultSettings }, ...chosen);
  }

  set(changes: Partial<Settings>): Settings {
    this.database.transaction(() => {
      for (const [name, value] of Object.entries(changes)) {
        if (value === undefined) continue;
        this.database.run(
          `INSERT INTO settings (name, value_json) VALUES (?, ?)
           ON CONFLICT (name) DO UPDATE SET value_json = excluded.value_json`,
          name,
          JSON.stringify(value),
        );
      }
    });
    return this.get();
  }
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
