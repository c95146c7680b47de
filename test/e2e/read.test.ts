import { createHash } from "node:crypto";
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import type { DocumentEntry } from "../../contract/documents.ts";
import type { ReadReport } from "../../contract/routes.ts";
import { openLibrary } from "../../host/store/library.ts";
import { textWith } from "./madeUpDocuments.ts";
import { hostOf, small, until, usePlace } from "./scholia.ts";

const place = usePlace();
let long: string;

beforeAll(async () => {
  long = await place.write(
    "long.txt",
    textWith(["The door code of Ida's boathouse is 48213."], 3600),
  );
});

const read = async (...options: string[]) =>
  (await place.json(["read", long, ...small, ...options])) as ReadReport;

describe("scholia read", () => {
  test("killed without warning, goes on from the last whole run", async () => {
    const running = place.start(["read", long, ...small]);
    await until(async () => ((await place.runFiles()).length >= 2 ? true : undefined));
    running.signal("SIGKILL");
    await running.finished;
    const saved = (await place.runFiles()).length;
    expect(saved).toBeGreaterThanOrEqual(2);

    const report = await read();
    expect(report.cachedOnDisk).toBeGreaterThanOrEqual(2 * 1024);
    expect(report.prefillTokens + report.cachedOnDisk).toBe(report.readTokens);
    expect(report.prefillTokens).toBeGreaterThan(0);
    expect(report.storedBytes).toBeGreaterThan(report.readTokens * 23_040);
  });

  test("has nothing left to do the second time", async () => {
    const report = await read();
    expect(report.prefillTokens).toBe(0);
    expect(report.cachedOnDisk).toBe(report.readTokens);
    const { out } = await place.run(["read", long, ...small]);
    expect(out).toMatch(/Nothing had to be computed; [\d,]+ were saved before\. \d+ files/);
  });

  test("reads a damaged or short file again, and says nothing wrong", async () => {
    const files = await place.runFiles();
    const path = (file: string) => join(place.data, "reads", file);
    const first = await readFile(path(files[0]!));
    first[first.length >> 1]! ^= 1;
    await writeFile(path(files[0]!), first);
    const { err } = await place.run(["read", long, ...small]);
    expect(err).toMatch(/[\d,]+ saved tokens were damaged on disk; they were read again\./);
    await writeFile(path(files[1]!), first.subarray(0, 1000));
    expect((await read()).prefillTokens).toBeGreaterThan(0);
    expect((await read()).prefillTokens).toBe(0);
    const sizes = await Promise.all((await place.runFiles()).map((file) => stat(path(file))));
    expect(sizes.every(({ size }) => size > 1000)).toBe(true);
  });

  test("stopped with Ctrl+C, keeps what is done and says so", async () => {
    const other = await place.write("other.txt", textWith([], 3600, 9));
    const before = (await place.runFiles()).length;
    const running = place.start(["read", other, ...small]);
    await until(async () => ((await place.runFiles()).length > before ? true : undefined));
    running.signal("SIGINT");
    const { code, err } = await running.finished;
    expect(code).toBe(130);
    expect(err).toMatch(/Stopped after [\d,]+ of [\d,]+ tokens\. What is read is kept/);
    expect((await entryOf(other)).reads[0]).toMatchObject({ complete: false });
    const report = (await place.json(["read", other, ...small])) as ReadReport;
    expect(report.cachedOnDisk).toBeGreaterThanOrEqual(1024);
    expect((await entryOf(other)).reads).toMatchObject([{ complete: true, key: report.key }]);
  });

  test("whose host dies ends with its last words", async () => {
    const third = await place.write("third.txt", textWith([], 3600, 11));
    const before = (await place.runFiles()).length;
    const running = place.start(["read", third, ...small]);
    const host = await hostOf(running);
    await until(async () => ((await place.runFiles()).length > before ? true : undefined));
    process.kill(host, "SIGSEGV");
    const { code, err, out } = await running.finished;
    expect(code).toBe(1);
    expect(out).toBe("");
    expect(err).toMatch(/error \(engine_lost\): The host process was ended by SIGSEGV/);
    expect(err).toContain("What was saved is kept");
    expect(
      ((await place.json(["read", third, ...small])) as ReadReport).cachedOnDisk,
    ).toBeGreaterThan(0);
  });

  test("leaves no host behind when the command line dies", async () => {
    const fourth = await place.write("fourth.txt", textWith([], 3600, 13));
    const before = (await place.runFiles()).length;
    const running = place.start(["read", fourth, ...small]);
    const host = await hostOf(running);
    await until(async () => ((await place.runFiles()).length > before ? true : undefined));
    process.kill(running.child.pid!, "SIGKILL");
    await until(() => (isAlive(host) ? undefined : true), 30);
  });
});

async function entryOf(file: string): Promise<DocumentEntry> {
  const id = createHash("sha256")
    .update(await readFile(file))
    .digest("hex");
  const library = await openLibrary(place.data);
  try {
    return await library.documents.get(id);
  } finally {
    library.close();
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
