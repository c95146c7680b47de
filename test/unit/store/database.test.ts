import { readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "@photostructure/sqlite";
import { describe, expect, test } from "vitest";
import { databasePath, openDatabase } from "../../../host/store/database.ts";
import { migrations } from "../../../host/store/migrations.ts";
import { dataFolder } from "./folder.ts";

const folder = dataFolder();

describe("the database", () => {
  test("is made in WAL mode and opened again with what was written", async () => {
    const first = await openDatabase(folder.path);
    expect(first.notice).toBeNull();
    expect(first.database.first("PRAGMA journal_mode")).toEqual({ journal_mode: "wal" });
    first.database.run("INSERT INTO settings VALUES ('a', '1')");
    // A second process may have it open at the same time.
    const second = await openDatabase(folder.path);
    expect(second.database.all("SELECT * FROM settings")).toEqual([{ name: "a", value_json: "1" }]);
    first.database.close();
    second.database.close();
  });

  test("keeps all of a transaction or nothing", async () => {
    const { database } = await openDatabase(folder.path);
    expect(() =>
      database.transaction(() => {
        database.run("INSERT INTO settings VALUES ('a', '1')");
        throw new Error("a defect");
      }),
    ).toThrow("a defect");
    expect(database.all("SELECT * FROM settings")).toEqual([]);
    database.close();
  });

  test("of a later version is refused and left as it is", async () => {
    (await openDatabase(folder.path)).database.close();
    const connection = new DatabaseSync(databasePath(folder.path));
    connection.exec(`PRAGMA user_version = ${migrations.length + 1}`);
    connection.close();
    await expect(openDatabase(folder.path)).rejects.toMatchObject({ code: "library_broken" });
    expect((await readdir(folder.path)).filter((name) => name.includes("damaged"))).toEqual([]);
  });

  test.each([
    ["no database at all", (path: string) => writeFile(path, "This is no database.".repeat(500))],
    [
      "cut short",
      async (path: string) => {
        await fill(path);
        await truncate(path, 4096 * 3);
      },
    ],
    [
      "with pages overwritten",
      async (path: string) => {
        await fill(path);
        const bytes = await readFile(path);
        bytes.fill(0xa5, 4096 * 2, 4096 * 12);
        await writeFile(path, bytes);
      },
    ],
  ])("that is damaged (%s) is set aside and said to be so", async (_how, damage) => {
    const path = databasePath(folder.path);
    await damage(path);
    const damaged = await readFile(path);
    const { database, notice } = await openDatabase(folder.path);
    expect(notice).toContain("damaged");
    expect(database.all("SELECT * FROM chats")).toEqual([]);
    const [aside] = (await readdir(folder.path)).filter((name) => /damaged.*\.db$/.test(name));
    expect(notice).toContain(aside);
    expect(await readFile(join(folder.path, aside!))).toEqual(damaged);
    database.close();
    expect((await openDatabase(folder.path)).notice).toBeNull();
  });

  async function fill(path: string) {
    const { database } = await openDatabase(folder.path);
    for (let index = 0; index < 400; index++) {
      database.run("INSERT INTO settings VALUES (?, ?)", `name ${index}`, "x".repeat(300));
    }
    database.run("PRAGMA wal_checkpoint(TRUNCATE)");
    database.close();
    expect((await readFile(path)).length).toBeGreaterThan(4096 * 20);
  }
});
