import { ScholiaError } from "../../contract/errors.ts";
import type { ModelSource } from "./catalog.ts";
import { request } from "./download.ts";

export type HubSource = Extract<ModelSource, { kind: "huggingface" }>;

/** The hub's address: `HF_ENDPOINT` as in the hub's own tools, for mirrors. */
const hubUrl = (): string =>
  process.env.HF_ENDPOINT?.replace(/\/$/, "") || "https://huggingface.co";

/** The address from which the file is read. */
export const hubFileUrl = ({ repo, file, revision }: HubSource): string =>
  `${hubUrl()}/${repo}/resolve/${revision}/${file}`;

export interface HubFile {
  url: string;
  bytes: number;
  sha256: string;
}

/**
 * Asks the hub for a file's size and checksum. A large file's ETag is the SHA-256 of its content
 * (`x-linked-etag` on the redirection to where the content lies). Throws `download_failed`.
 */
export async function describeHubFile(
  source: HubSource,
  { signal, timeoutMs = 30_000 }: { signal?: AbortSignal | undefined; timeoutMs?: number } = {},
): Promise<HubFile> {
  const url = hubFileUrl(source);
  const { statusCode, headers } = await askHead(url, timeoutMs, signal);
  const linked = headers["x-linked-etag"] ?? headers.etag;
  const sha256 = /^(?:W\/)?"?([0-9a-f]{64})"?$/.exec(String(linked))?.[1];
  const bytes = Number(headers["x-linked-size"] ?? headers["content-length"]);
  if (sha256 && Number.isSafeInteger(bytes) && bytes > 0) return { url, bytes, sha256 };
  throw new ScholiaError(
    "download_failed",
    `${url} answered ${statusCode} without the size and checksum of a model.`,
  );
}

async function askHead(url: string, timeoutMs: number, signal: AbortSignal | undefined) {
  const timeout = new AbortController();
  const timer = setTimeout(() => timeout.abort(), timeoutMs);
  try {
    const response = await request(url, {
      method: "HEAD",
      headers: { "accept-encoding": "identity" },
      signal: signal ? AbortSignal.any([signal, timeout.signal]) : timeout.signal,
      // A repository that moved redirects within the hub; the content's own address lacks the headers.
      follow: (from, to) => from.host === to.host,
    });
    response.resume();
    return response;
  } catch (error) {
    if (signal?.aborted || error instanceof ScholiaError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    const reason = timeout.signal.aborted ? `no answer in ${timeoutMs / 1000} s` : code;
    throw new ScholiaError("download_failed", `${new URL(url).host} can't be reached (${reason}).`);
  } finally {
    clearTimeout(timer);
  }
}

/** Whether the hub can be reached from here, asked by a request for the head of one file. */
export async function isHubReachable(source: HubSource, timeoutMs = 3000): Promise<boolean> {
  return describeHubFile(source, { timeoutMs }).then(
    () => true,
    () => false,
  );
}
