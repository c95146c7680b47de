import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { downloadFile } from "../../../host/models/download.ts";
import { FileServer, noise } from "./fileServer.ts";

const content = noise(300_000);
let server: FileServer;
let folder: string;
let path: string;

beforeEach(async () => {
  server = new FileServer(content);
  await server.start();
  folder = mkdtempSync(join(tmpdir(), "scholia-download-"));
  path = join(folder, "file");
});

afterEach(async () => {
  await server.stop();
  rmSync(folder, { recursive: true });
});

const download = (options: Partial<Parameters<typeof downloadFile>[2]> = {}) =>
  downloadFile(`${server.url}/content`, path, {
    bytes: content.length,
    retryDelayMs: 1,
    ...options,
  });

test("a file comes whole, with the bytes counted", async () => {
  const counted: number[] = [];
  await download({ onBytes: (done) => counted.push(done) });
  expect(readFileSync(path).equals(content)).toBe(true);
  expect(counted[0]).toBe(0);
  expect(counted.at(-1)).toBe(content.length);
  expect(counted).toEqual(counted.toSorted((a, b) => a - b));
});

test("goes on where an earlier download stopped", async () => {
  writeFileSync(path, content.subarray(0, 100_001));
  await download();
  expect(server.starts).toEqual([100_001]);
  expect(readFileSync(path).equals(content)).toBe(true);
});

test("a finished file is not asked for again", async () => {
  writeFileSync(path, content);
  await download();
  expect(server.starts).toEqual([]);
});

test("a file that is too long begins anew", async () => {
  writeFileSync(path, noise(content.length + 1, 2));
  await download();
  expect(readFileSync(path).equals(content)).toBe(true);
});

test("lost connections cost only the bytes that had not come", async () => {
  server.faults = [{ cutAfter: 50_000 }, { cutAfter: 1 }, { cutAfter: 0 }, { cutAfter: 100_000 }];
  await download();
  expect(readFileSync(path).equals(content)).toBe(true);
  expect(server.starts).toHaveLength(5);
  expect(server.starts).toEqual(server.starts.toSorted((a, b) => a - b));
});

test("a server that falls silent counts as lost", async () => {
  server.faults = [{ stallAfter: 50_000 }];
  await download({ idleTimeoutMs: 200 });
  expect(readFileSync(path).equals(content)).toBe(true);
  expect(server.starts).toEqual([0, 50_000]);
});

test("a server without ranges sends the file from its start", async () => {
  writeFileSync(path, noise(100_000, 2));
  server.faults = [{ ignoreRange: true }];
  await download();
  expect(readFileSync(path).equals(content)).toBe(true);
});

test("a busy server is asked again, one without the file is not", async () => {
  server.faults = [{ status: 503 }, { status: 429 }];
  await download();
  expect(server.starts).toHaveLength(3);
  rmSync(path);
  server.faults = [{ status: 404 }];
  await expect(download()).rejects.toMatchObject({
    code: "download_failed",
    message: expect.stringContaining("404"),
  });
  expect(server.starts).toHaveLength(4);
});

test("a file of another size than expected is refused", async () => {
  await expect(download({ bytes: content.length + 5 })).rejects.toMatchObject({
    code: "download_failed",
  });
  server.faults = [{ ignoreRange: true }];
  await expect(download({ bytes: content.length - 5 })).rejects.toMatchObject({
    code: "download_failed",
  });
});

test("gives up after several tries without a byte, and keeps what has come", async () => {
  server.faults = [{ cutAfter: 70_000 }, ...Array.from({ length: 5 }, () => ({ cutAfter: 0 }))];
  server.pieceDelayMs = 2;
  await expect(download()).rejects.toMatchObject({ code: "download_failed" });
  const kept = readFileSync(path);
  expect(kept.length).toBeGreaterThan(0);
  expect(kept.equals(content.subarray(0, kept.length))).toBe(true);
});

test("an address where nobody listens is a clear failure", async () => {
  const url = server.url;
  await server.stop();
  await expect(
    downloadFile(`${url}/content`, path, { bytes: 10, retryDelayMs: 1 }),
  ).rejects.toMatchObject({
    code: "download_failed",
    message: expect.stringContaining("ECONNREFUSED"),
  });
  await server.start();
});

test("a stop keeps what has come and the next download goes on", async () => {
  const controller = new AbortController();
  server.pieceDelayMs = 5;
  const stopped = download({
    signal: controller.signal,
    onBytes: (done) => done > 60_000 && controller.abort(),
  });
  await expect(stopped).rejects.toMatchObject({ code: "cancelled" });
  const kept = readFileSync(path);
  expect(kept.length).toBeGreaterThan(60_000);
  expect(kept.length).toBeLessThan(content.length);
  server.pieceDelayMs = 0;
  await download();
  expect(server.starts).toEqual([0, kept.length]);
  expect(readFileSync(path).equals(content)).toBe(true);
});
