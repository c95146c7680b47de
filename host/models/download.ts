import { type FileHandle, open, stat } from "node:fs/promises";
import http, { type IncomingMessage } from "node:http";
import https from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { ScholiaError } from "../../contract/errors.ts";

export interface DownloadOptions {
  /** Exact size of the file. A server that sends more or less is not believed. */
  bytes: number;
  signal?: AbortSignal | undefined;
  /** Called with the bytes that the file has. */
  onBytes?: ((done: number) => void) | undefined;
  /** Silence after which a connection counts as lost; 30,000 when left out. */
  idleTimeoutMs?: number | undefined;
  /** Wait before the first new try, doubled for each one after; 1,000 when left out. */
  retryDelayMs?: number | undefined;
}

const maxRedirects = 5;
const maxTriesWithoutProgress = 5;

/** Bytes of the file at `path`, 0 when there is none. */
export async function fileBytes(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch {
    return 0;
  }
}

/**
 * Fetches a file by HTTP, beginning where the file at `path` ends (Range, RFC 9110 section 14) and
 * beginning again after a lost connection. What has come stays in the file whatever happens.
 * Throws `download_failed`, `disk_full` or `cancelled`.
 */
export async function downloadFile(
  url: string,
  path: string,
  options: DownloadOptions,
): Promise<void> {
  const file = await open(path, "a+");
  try {
    let tries = 0;
    let done = await startLength(file, options.bytes);
    options.onBytes?.(done);
    while (done < options.bytes) {
      const before = done;
      try {
        done = await downloadRest(url, file, done, options);
      } catch (error) {
        done = (await file.stat()).size;
        if (done > before) tries = 0;
        await betweenTries(error, ++tries, url, done, options);
      }
    }
  } finally {
    await file.close();
  }
}

/** How much of the file is here; one that is too long is no part of what we want. */
async function startLength(file: FileHandle, bytes: number): Promise<number> {
  const { size } = await file.stat();
  if (size <= bytes) return size;
  await file.truncate(0);
  return 0;
}

/** One request for what is missing. Returns the bytes that the file then has. */
async function downloadRest(
  url: string,
  file: FileHandle,
  start: number,
  options: DownloadOptions,
): Promise<number> {
  const response = await request(url, {
    headers: { range: `bytes=${start}-`, "accept-encoding": "identity" },
    signal: options.signal,
    timeoutMs: options.idleTimeoutMs,
  });
  let done = await acceptStart(response, file, start, options.bytes);
  for await (const chunk of response as AsyncIterable<Buffer>) {
    if (done + chunk.length > options.bytes)
      throw new ScholiaError(
        "download_failed",
        `The server sent more than the ${options.bytes} bytes that ${url} should have.`,
      );
    await file.appendFile(chunk);
    done += chunk.length;
    options.onBytes?.(done);
  }
  if (done < options.bytes) throw new Error("the connection ended early");
  return done;
}

/** Checks the head of the answer and brings the file to where the answer's first byte belongs. */
async function acceptStart(
  response: IncomingMessage,
  file: FileHandle,
  start: number,
  bytes: number,
): Promise<number> {
  const status = response.statusCode ?? 0;
  if (
    status === 206 &&
    response.headers["content-range"] === `bytes ${start}-${bytes - 1}/${bytes}`
  )
    return start;
  if (status === 200) {
    await file.truncate(0);
    return 0;
  }
  response.destroy();
  if (status === 429 || status >= 500) throw new Error(`the server answered ${status}`);
  const range = response.headers["content-range"];
  throw new ScholiaError(
    "download_failed",
    `The server answered ${status}${range ? ` (${range})` : ""} where the ${bytes} bytes of a model were asked for: it no longer has this file.`,
  );
}

/** Waits before a new try, or throws what ends the download: what is no ScholiaError (a lost
 * connection, a busy server) may go better next time. */
async function betweenTries(
  error: unknown,
  tries: number,
  url: string,
  done: number,
  options: DownloadOptions,
): Promise<void> {
  if (options.signal?.aborted) throw cancelled();
  if (error instanceof ScholiaError) throw error;
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "ENOSPC" || code === "EDQUOT") throw diskFull();
  if (tries >= maxTriesWithoutProgress)
    throw new ScholiaError(
      "download_failed",
      `${new URL(url).host} could not be read (${message || code}); ${done} of ${options.bytes} bytes are here and kept: check the network and start again.`,
    );
  const delay = (options.retryDelayMs ?? 1000) * 2 ** (tries - 1);
  await sleep(delay, undefined, { signal: options.signal }).catch(() => {
    throw cancelled();
  });
}

export const cancelled = (): ScholiaError =>
  new ScholiaError("cancelled", "The download was stopped; what has come is kept.");

export const diskFull = (): ScholiaError =>
  new ScholiaError(
    "disk_full",
    "The disk is full; what has come is kept: make room and start again.",
  );

export interface RequestOptions {
  method?: "GET" | "HEAD";
  headers?: Record<string, string>;
  signal?: AbortSignal | undefined;
  timeoutMs?: number | undefined;
  /** Which redirections to follow; all when left out. */
  follow?: (from: URL, to: URL) => boolean;
}

/** Sends one HTTP request and follows its redirections (never from https to http). */
export async function request(url: string, options: RequestOptions = {}): Promise<IncomingMessage> {
  let at = new URL(url);
  for (let redirects = 0; redirects <= maxRedirects; redirects++) {
    const response = await requestOnce(at, options);
    const { location } = response.headers;
    const status = response.statusCode ?? 0;
    if (status < 300 || status >= 400 || !location) return response;
    const to = new URL(location, at);
    if (options.follow && !options.follow(at, to)) return response;
    response.destroy();
    if (at.protocol === "https:" && to.protocol !== "https:")
      throw new ScholiaError("download_failed", `${at.host} redirects to an unprotected address.`);
    at = to;
  }
  throw new ScholiaError("download_failed", `${new URL(url).host} redirects without end.`);
}

function requestOnce(url: URL, options: RequestOptions): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const { request } = url.protocol === "https:" ? https : http;
    const { method = "GET", headers = {}, signal, timeoutMs = 30_000 } = options;
    const sent = request(
      url,
      { method, headers, timeout: timeoutMs, ...(signal ? { signal } : {}) },
      resolve,
    );
    sent.on("timeout", () => sent.destroy(new Error(`no byte in ${timeoutMs / 1000} s`)));
    sent.on("error", reject);
    sent.end();
  });
}
