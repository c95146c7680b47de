import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { makeFolder } from "../../../build/madeFolder.ts";

let base: string;
let folder: string;
let filled: string[];

beforeEach(async () => {
  vi.spyOn(process.stderr, "write").mockReturnValue(true);
  base = await mkdtemp(join(tmpdir(), "scholia-made-"));
  folder = join(base, "window");
  filled = [];
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(base, { recursive: true });
});

/** Makes the folder with a file that holds the hash, in two steps. */
const make = (hash: string) =>
  makeFolder({
    folder,
    hash,
    what: "Making",
    async fill(place) {
      filled.push(hash);
      await mkdir(place);
      await writeFile(join(place, "first"), hash);
      await sleep(30);
      await writeFile(join(place, "second"), hash);
    },
  });

const content = async () => [
  await readFile(join(folder, "first"), "utf8"),
  await readFile(join(folder, "second"), "utf8"),
];

test("a folder is made once for the same sources, anew for others", async () => {
  await make("a");
  await make("a");
  expect(filled).toEqual(["a"]);
  await make("b");
  expect(filled).toEqual(["a", "b"]);
  expect(await content()).toEqual(["b", "b"]);
  expect(await readdir(base)).toEqual(["window"]);
});

test("two that begin at once make it once", async () => {
  await Promise.all([make("a"), make("a")]);
  expect(filled).toEqual(["a"]);
  expect(await content()).toEqual(["a", "a"]);
});

test("who looks while it is made sees the old one whole", async () => {
  await make("a");
  const making = make("b");
  while (filled.length < 2) await sleep(1);
  expect(await content()).toEqual(["a", "a"]);
  await making;
});

test("a failure leaves the old one, and the next try begins anew", async () => {
  await make("a");
  const fill = async (place: string) => {
    await mkdir(place);
    await writeFile(join(place, "first"), "half");
    throw new Error("no room");
  };
  await expect(makeFolder({ folder, hash: "b", what: "Making", fill })).rejects.toThrow("no room");
  expect(await content()).toEqual(["a", "a"]);
  expect(existsSync(`${folder}.lock`)).toBe(false);
  await make("b");
  expect(await content()).toEqual(["b", "b"]);
});
