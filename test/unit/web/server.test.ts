// The real server and the real host; a window of three files.
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { connect as connectSocket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { connect } from "../../../contract/client.ts";
import { decodeMessage, encodeMessage } from "../../../contract/codec.ts";
import { closeCodes } from "../../../contract/shell.ts";
import type { Port } from "../../../contract/wire.ts";
import { HostKeeper } from "../../../host/keeper.ts";
import { type HostProcess, startHost } from "../../../host/process.ts";
import { fileName } from "../../../host/store/copies.ts";
import { startWebServer, type WebServer } from "../../../web/server.ts";

let folder: string;
let dataDir: string;
let keeper: HostKeeper<HostProcess>;
let server: WebServer;
let cookie: string;
let origin: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "scholia-web-"));
  dataDir = join(folder, "data");
  const staticDir = join(folder, "window");
  await mkdir(join(staticDir, "assets"), { recursive: true });
  await mkdir(dataDir);
  await writeFile(join(staticDir, "index.html"), "<title>Scholia</title>");
  await writeFile(join(staticDir, "assets", "main-Abcd1234.js"), "0;");
  await writeFile(join(staticDir, "stamp"), "not to be served");
  await writeFile(join(folder, "secret.js"), "secret");
  keeper = new HostKeeper(() => startHost({ dataDir }));
  server = await startWebServer({ keeper, staticDir, dataDir, version: "9.9.9", port: 0 });
  origin = `http://127.0.0.1:${server.port}`;
  const { headers } = await ask(new URL(server.url).pathname + new URL(server.url).search);
  cookie = headers["set-cookie"]![0]!.split(";")[0]!;
});

afterAll(async () => {
  await server.close();
  await keeper.close();
  await rm(folder, { recursive: true, force: true });
});

interface Reply {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: string;
}

/** As raw as a browser of bad intent could: fetch would not let headers be chosen. */
function ask(
  path: string,
  headers: Record<string, string> = {},
  { method = "GET", body = "" }: { method?: string; body?: string | Buffer } = {},
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const sent = request(
      { host: "127.0.0.1", port: server.port, path, method, headers, agent: false },
      (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk) => (text += chunk));
        response.on("end", () =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }),
        );
      },
    );
    sent.on("error", reject);
    sent.end(body);
  });
}

const own = () => ({ cookie, origin });

describe("the loopback server", () => {
  test("takes the token once and then knows the browser by its cookie", async () => {
    const { status, headers } = await ask(
      `/?token=${new URL(server.url).searchParams.get("token")}`,
    );
    expect([status, headers.location]).toEqual([303, "/"]);
    expect(headers["set-cookie"]![0]).toMatch(/HttpOnly; SameSite=Strict/);
    expect(await ask("/", { cookie })).toMatchObject({
      status: 200,
      body: "<title>Scholia</title>",
    });
    expect((await ask("/assets/main-Abcd1234.js", { cookie })).headers["cache-control"]).toContain(
      "immutable",
    );
  });

  test("refuses whoever has no token, or another one", async () => {
    for (const path of ["/", "/index.html", "/shell/state", "/?token=", "/?token=wrong"]) {
      expect((await ask(path)).status).toBe(401);
    }
    const wrong = cookie.slice(0, -1) + (cookie.endsWith("A") ? "B" : "A");
    expect((await ask("/", { cookie: wrong })).status).toBe(401);
    const reply = await ask("/shell/restart", { origin }, { method: "POST" });
    expect(reply.status).toBe(401);
    expect(await socketCloses({ origin })).toBe(401);
  });

  test("answers to its own address only (DNS rebinding)", async () => {
    for (const host of ["evil.example", `evil.example:${server.port}`, "127.0.0.1"]) {
      expect((await ask("/", { cookie, host })).status).toBe(421);
      const token = new URL(server.url).searchParams.get("token");
      expect((await ask(`/?token=${token}`, { host })).status).toBe(421);
      expect(await socketCloses({ ...own(), host })).toBe(421);
    }
    expect((await ask("/", { cookie, host: `localhost:${server.port}` })).status).toBe(200);
  });

  test("refuses requests of other pages", async () => {
    const foreign = { cookie, origin: "https://evil.example" };
    expect((await ask("/", foreign)).status).toBe(403);
    expect((await ask("/", { cookie, "sec-fetch-site": "cross-site" })).status).toBe(403);
    expect((await ask("/shell/restart", foreign, { method: "POST" })).status).toBe(403);
    // A form of another page sends no Origin in some browsers.
    expect((await ask("/shell/restart", { cookie }, { method: "POST" })).status).toBe(403);
    expect(await socketCloses(foreign)).toBe(403);
    expect(await socketCloses({ cookie })).toBe(403);
    expect(await socketCloses({ cookie, origin: `http://127.0.0.1:${server.port + 1}` })).toBe(403);
  });

  test("serves what was bundled and nothing else", async () => {
    for (const path of [
      "/stamp",
      "/../secret.js",
      "/assets/../../secret.js",
      "/%2e%2e/secret.js",
      "/assets/..%2f..%2fsecret.js",
      "/nothing",
    ]) {
      expect((await rawStatus(path)).toString()).toBe("404");
    }
    expect((await ask("/", { cookie }, { method: "DELETE" })).status).toBe(405);
  });

  test("sends headers that keep pages to themselves", async () => {
    for (const path of ["/", "/shell/state", "/nothing"]) {
      const { headers } = await ask(path, { cookie });
      expect(headers["content-security-policy"]).toContain("default-src 'none'");
      expect(headers["content-security-policy"]).toContain("frame-ancestors 'none'");
      expect(headers["x-content-type-options"]).toBe("nosniff");
      expect(headers["access-control-allow-origin"]).toBeUndefined();
    }
  });

  test("takes documents and names them by their bytes", async () => {
    const text = "The harbour is closed in winter.";
    const upload = (name: string) =>
      ask(`/shell/documents?name=${encodeURIComponent(name)}`, own(), {
        method: "POST",
        body: text,
      });
    const { body } = await upload("../../etc/harbour.txt");
    const id = createHash("sha256").update(text).digest("hex");
    expect(JSON.parse(body)).toMatchObject({
      ok: true,
      value: { added: [{ id, title: "harbour.txt", kind: "text" }], refused: [] },
    });
    expect(await readFile(join(dataDir, "uploads", id, "harbour.txt"), "utf8")).toBe(text);
    await upload("harbour.txt");
    expect(await readdir(join(dataDir, "uploads"))).toEqual([id]);
    const empty = await ask("/shell/documents?name=a.txt", own(), { method: "POST" });
    expect(JSON.parse(empty.body)).toMatchObject({ ok: false, error: { code: "document_empty" } });
    const large = { ...own(), "content-length": String(600 * 2 ** 20) };
    const refused = await ask("/shell/documents?name=a.txt", large, { method: "POST" }).catch(
      () => null,
    );
    expect(refused === null || refused.body.includes("document_too_large")).toBe(true);
    expect(await readdir(join(dataDir, "uploads"))).toEqual([id]);
  });
});

describe("the WebSocket", () => {
  test("leads to the host, which takes no paths from it", async () => {
    const client = connect(await openPort());
    expect(await client.request("host.hello", {})).toMatchObject({ ok: true });
    expect(await client.request("documents.add", { path: "/etc/hosts" })).toMatchObject({
      error: { code: "not_allowed" },
    });
    const listed = await client.request("documents.list", {});
    expect(listed.ok && listed.value.map(({ name }) => name)).toEqual(["harbour.txt"]);
  });

  test("carries bytes: a read map, a page's text", async () => {
    const client = connect(await openPort());
    const listed = await client.request("documents.list", {});
    const [entry] = listed.ok ? listed.value : [];
    const run = client.open("document.open", { documentId: entry!.id });
    expect(await run.result()).toMatchObject({ ok: true, value: { documentPages: 1 } });
    const page = await client.request("document.page", { documentId: entry!.id, page: 1 });
    expect(page.ok && page.value.text.trim()).toBe("The harbour is closed in winter.");
  });

  test("is closed on frames that are no messages or too large", async () => {
    for (const frame of ["{", Buffer.from([1, 2, 3])]) {
      const socket = await openSocket();
      socket.send(frame);
      expect(await closeCode(socket)).toBe(closeCodes.refused);
    }
    const socket = await openSocket();
    socket.send("x".repeat(9 * 2 ** 20));
    expect(await closeCode(socket)).toBe(1009);
    expect((await ask("/shell/state", { cookie })).status).toBe(200);
  });

  test("says that the host died, and leads to the next one", async () => {
    const socket = await openSocket();
    const closed = closeCode(socket);
    process.kill(keeper.running().pid, "SIGKILL");
    expect(await closed).toBe(closeCodes.hostGone);
    await expect
      .poll(async () => JSON.parse((await ask("/shell/state", { cookie })).body).value.host)
      .toMatchObject({ state: "exited", error: { code: "engine_lost" } });
    const client = connect(await openPort());
    expect(await client.request("host.hello", {})).toMatchObject({ ok: true });
    const restarted = await ask("/shell/restart", own(), { method: "POST" });
    expect(JSON.parse(restarted.body)).toEqual({ ok: true, value: null });
  });
});

test("names of uploads lead nowhere else", () => {
  expect(fileName("../../a/b.pdf")).toBe("b.pdf");
  expect(fileName("..\\..\\c.pdf")).toBe("c.pdf");
  expect(fileName("..")).toBe("_");
  expect(fileName("")).toBe("document");
  expect(fileName("a\0b:c?.txt")).toBe("a_b_c_.txt");
  expect(fileName(`${"ä".repeat(300)}.pdf`)).toBe(`${"ä".repeat(80)}.pdf`);
});

function openSocket(): Promise<WebSocket> {
  const socket = new WebSocket(`ws://127.0.0.1:${server.port}/host`, { headers: own() });
  return new Promise((resolve, reject) => {
    socket.once("open", () => resolve(socket));
    socket.once("error", reject);
  });
}

async function openPort(): Promise<Port> {
  const socket = await openSocket();
  return {
    post: (message) => socket.send(encodeMessage(message)),
    onMessage: (listener) =>
      void socket.on("message", (data: Buffer, isBinary) =>
        listener(decodeMessage(isBinary ? data : data.toString())),
      ),
    onClose: (listener) => void socket.once("close", () => listener()),
    close: () => socket.close(),
  };
}

/** The status that a WebSocket is refused with. */
function socketCloses(headers: Record<string, string>): Promise<number | undefined> {
  const socket = new WebSocket(`ws://127.0.0.1:${server.port}/host`, { headers });
  return new Promise((resolve) => {
    socket.once("unexpected-response", (_request, response) => resolve(response.statusCode));
    socket.once("open", () => resolve(101));
    socket.once("error", () => resolve(undefined));
  });
}

function closeCode(socket: WebSocket): Promise<number> {
  socket.on("error", () => {});
  return new Promise((resolve) => socket.once("close", (code) => resolve(code)));
}

/** Without the tidying of paths that Node's client does. */
function rawStatus(path: string): Promise<number> {
  const socket = connectSocket(server.port, "127.0.0.1");
  const host = `127.0.0.1:${server.port}`;
  socket.write(
    `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nCookie: ${cookie}\r\nConnection: close\r\n\r\n`,
  );
  return new Promise((resolve) => {
    socket.once("data", (data) => resolve(Number(data.toString().split(" ")[1])));
  });
}
