/** The browser shell: the bundled window, its WebSocket to the host, and what a page can't do by itself,
 * on this machine's loopback interface only. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import { decodeMessage, encodeMessage } from "../contract/codec.ts";
import { type Result, ScholiaError, toErrorValue } from "../contract/errors.ts";
import { type AddedDocuments, closeCodes, type ShellState, webPaths } from "../contract/shell.ts";
import { contentPolicy } from "../contract/windowFiles.ts";
import type { Port } from "../contract/wire.ts";
import type { HostKeeper } from "../host/keeper.ts";
import type { HostProcess } from "../host/process.ts";
import { createAccess } from "./access.ts";
import { readStaticFiles, type StaticFile } from "./staticFiles.ts";
import { receiveDocument } from "./upload.ts";

export interface WebServerOptions {
  keeper: HostKeeper<HostProcess>;
  /** The bundled window. */
  staticDir: string;
  dataDir: string;
  version: string;
  /** 0: any free one. */
  port: number;
}

export interface WebServer {
  /** To be opened in a browser: holds the token. */
  readonly url: string;
  readonly port: number;
  close(): Promise<void>;
}

/** A question of a million letters fits. */
const messageBytesAtMost = 8 * 2 ** 20;
/** A page that does not take its frames is let go: it may come back and have them replayed. */
const bufferedBytesAtMost = 64 * 2 ** 20;

const commonHeaders = {
  "Content-Security-Policy": contentPolicy,
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
};

/** @throws ScholiaError `not_found` when the window is not bundled; `usage` when the port is taken */
export async function startWebServer(options: WebServerOptions): Promise<WebServer> {
  const files = await readStaticFiles(options.staticDir);
  let port = options.port;
  const access = createAccess(() => port);
  const server = createServer((request, response) => {
    void answer(request, response).catch((error: unknown) => {
      if (response.headersSent) response.destroy();
      else sendJson(response, 500, { ok: false, error: toErrorValue(error) });
    });
  });
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: messageBytesAtMost,
    perMessageDeflate: false,
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://localhost");
    const path = url.pathname.slice(1);
    const isPost = request.method === "POST";
    const token = url.searchParams.get("token");
    if (path === "" && request.method === "GET" && access.isToken(token)) {
      const refusal = access.refusal({ headers: withToken(request) } as IncomingMessage, {
        needsOrigin: false,
      });
      if (refusal !== null) return refuse(response, refusal);
      // The token leaves the address bar and the history.
      response.writeHead(303, { ...commonHeaders, "Set-Cookie": access.cookie, Location: "/" });
      response.end();
      return;
    }
    const refusal = access.refusal(request, { needsOrigin: isPost });
    if (refusal !== null) return refuse(response, refusal);
    if (isPost) return act(path, url, request, response);
    if (request.method !== "GET" && request.method !== "HEAD") {
      return refuse(response, { status: 405, message: "Only GET and POST are answered." });
    }
    if (path === webPaths.state) {
      const { keeper, version } = options;
      const state: ShellState = {
        kind: "browser",
        version,
        platform: process.platform,
        host: keeper.state,
      };
      return sendJson(response, 200, { ok: true, value: state });
    }
    const file = files.get(path);
    if (file === undefined) return refuse(response, { status: 404, message: "Nothing is here." });
    sendFile(response, file, request.method === "HEAD");
  }

  function withToken({ headers }: IncomingMessage): IncomingMessage["headers"] {
    return { ...headers, cookie: access.cookie.split(";")[0] };
  }

  async function act(
    path: string,
    url: URL,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    if (path === webPaths.restart) {
      await options.keeper.restart();
      return sendJson(response, 200, { ok: true, value: null });
    }
    if (path === webPaths.documents) {
      const name = url.searchParams.get("name") ?? "document";
      return sendJson(response, 200, await addDocument(request, name));
    }
    refuse(response, { status: 404, message: "Nothing is here." });
  }

  async function addDocument(
    request: IncomingMessage,
    name: string,
  ): Promise<Result<AddedDocuments>> {
    try {
      const path = await receiveDocument(request, name, options.dataDir);
      const { client } = options.keeper.running();
      const reply = await client.request("documents.add", { path });
      const value = reply.ok
        ? { added: [reply.value], refused: [] }
        : { added: [], refused: [{ name, error: reply.error }] };
      return { ok: true, value };
    } catch (error) {
      // What is still to come of a file that is too large is not waited for.
      request.unpipe();
      request.resume();
      return { ok: false, error: toErrorValue(error) };
    }
  }

  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on("error", () => socket.destroy());
    const refusal = access.refusal(request, { needsOrigin: true });
    const path = new URL(request.url ?? "/", "http://localhost").pathname.slice(1);
    if (refusal !== null || path !== webPaths.host) {
      const { status, message } = refusal ?? { status: 404, message: "Nothing is here." };
      socket.end(`HTTP/1.1 ${status} Refused\r\nConnection: close\r\n\r\n${message}`);
      return;
    }
    sockets.handleUpgrade(request, socket, head, (opened) => {
      relay(opened, options.keeper.running().openLane());
    });
  });

  port = await listen(server, options.port);
  return {
    url: `http://127.0.0.1:${port}/?token=${access.token}`,
    port,
    async close() {
      for (const socket of sockets.clients) socket.terminate();
      sockets.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Carries messages between a page and its lane to the host, until either ends. */
export function relay(socket: WebSocket, lane: Port): void {
  socket.on("message", (data: Buffer, isBinary: boolean) => {
    try {
      lane.post(decodeMessage(isBinary ? data : data.toString()));
    } catch {
      socket.close(closeCodes.refused, "not a message");
    }
  });
  // A frame that is too large, for example: ws closes the socket itself.
  socket.on("error", () => {});
  socket.on("close", () => lane.close());
  lane.onMessage((message) => {
    if (socket.readyState !== socket.OPEN) return;
    if (socket.bufferedAmount > bufferedBytesAtMost) socket.terminate();
    else socket.send(encodeMessage(message));
  });
  lane.onClose(() => socket.close(closeCodes.hostGone, "the host ended"));
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const isTaken = error.code === "EADDRINUSE";
      const message = `Port ${port} is taken. Name another with --port, or leave it out.`;
      reject(isTaken ? new ScholiaError("usage", message) : error);
    });
    server.listen(port, "127.0.0.1", () => resolve((server.address() as AddressInfo).port));
  });
}

function sendFile(response: ServerResponse, file: StaticFile, headOnly: boolean): void {
  response.writeHead(200, {
    ...commonHeaders,
    "Content-Type": file.type,
    "Content-Length": file.bytes.length,
    "Cache-Control": file.isHashed ? "max-age=31536000, immutable" : "no-store",
  });
  response.end(headOnly ? undefined : file.bytes);
}

function sendJson(response: ServerResponse, status: number, value: Result<unknown>): void {
  response.writeHead(status, { ...commonHeaders, "Content-Type": "application/json" });
  response.end(JSON.stringify(value));
}

function refuse(
  response: ServerResponse,
  { status, message }: { status: number; message: string },
) {
  response.writeHead(status, { ...commonHeaders, "Content-Type": "text/plain; charset=utf-8" });
  response.end(`${message}\n`);
}
