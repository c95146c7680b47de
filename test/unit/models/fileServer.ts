import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** What goes wrong on one answer. */
export interface Fault {
  /** Break the connection after that many bytes of the body. */
  cutAfter?: number;
  /** Fall silent after that many bytes of the body. */
  stallAfter?: number;
  /** Answer with the whole file although a range was asked for. */
  ignoreRange?: boolean;
  /** Answer with this status and nothing else. */
  status?: number;
}

/** A web server on the loopback interface that serves one file by ranges, with faults on demand. It
 * also answers like the model hub: `/owner/name/resolve/…` redirects to the content. */
export class FileServer {
  /** Taken from the front, one for each request of the content. */
  faults: Fault[] = [];
  /** First byte of each range that was asked for. */
  starts: number[] = [];
  /** Bytes of the body written at a time, and the pause between two writes. */
  pieceBytes = 16_384;
  pieceDelayMs = 0;
  content: Buffer;
  /** What the hub says of the content; its true checksum when left out. */
  linkedEtag?: string;
  #server = createServer((request, response) => this.#answer(request, response));

  constructor(content: Buffer) {
    this.content = content;
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    if (request.url?.includes("/resolve/")) this.#answerAsHub(response);
    else void this.#answerContent(request, response);
  }

  #answerAsHub(response: ServerResponse): void {
    const etag = this.linkedEtag ?? createHash("sha256").update(this.content).digest("hex");
    response.writeHead(302, {
      // Another host name, as the hub's content has.
      location: `${this.url.replace("127.0.0.1", "localhost")}/content`,
      "x-linked-etag": `"${etag}"`,
      "x-linked-size": this.content.length,
    });
    response.end();
  }

  async #answerContent(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const fault = this.faults.shift() ?? {};
    const asked = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    this.starts.push(asked);
    if (fault.status) {
      response.writeHead(fault.status).end();
      return;
    }
    const start = fault.ignoreRange ? 0 : asked;
    const { length } = this.content;
    if (start >= length) {
      response.writeHead(416, { "content-range": `bytes */${length}` }).end();
      return;
    }
    const body = this.content.subarray(start);
    const ranged = !fault.ignoreRange && request.headers.range;
    response.writeHead(ranged ? 206 : 200, {
      "content-length": body.length,
      ...(ranged ? { "content-range": `bytes ${start}-${length - 1}/${length}` } : {}),
    });
    await this.#writeBody(response, body, fault);
  }

  async #writeBody(response: ServerResponse, body: Buffer, fault: Fault): Promise<void> {
    const end = Math.min(body.length, fault.cutAfter ?? fault.stallAfter ?? body.length);
    for (let at = 0; at < end; at += this.pieceBytes) {
      const piece = body.subarray(at, Math.min(end, at + this.pieceBytes));
      await new Promise((resolve) => response.write(piece, resolve));
      if (this.pieceDelayMs > 0) await new Promise((r) => setTimeout(r, this.pieceDelayMs));
    }
    if (fault.cutAfter !== undefined) response.destroy();
    else if (fault.stallAfter === undefined) response.end();
  }
}

/** Bytes that look random and are the same every time (Numerical Recipes' linear congruence). */
export function noise(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

export const sha256 = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");
