/** The bundled window under its own scheme. Only what is in its folder can be asked for. */
import { readFile } from "node:fs/promises";
import { extname, join, normalize, sep } from "node:path";
import { protocol, type Session } from "electron";
import { contentPolicy, mimeTypes } from "../../contract/windowFiles.ts";
import { isOwn, scheme } from "./origin.ts";

/** To be called before the app is ready. */
export function registerScheme(): void {
  const privileges = { standard: true, secure: true, supportFetchAPI: true };
  protocol.registerSchemesAsPrivileged([{ scheme, privileges }]);
}

interface Reply {
  status: number;
  headers: Record<string, string>;
  bytes: Buffer;
}

export function serveWindow(session: Session, folder: string): void {
  // Electron 22 has no `handle`, later ones deprecate `registerBufferProtocol`.
  if (typeof session.protocol.handle === "function") {
    session.protocol.handle(scheme, async ({ url }) => {
      const { status, headers, bytes } = await reply(url, folder);
      return new Response(new Uint8Array(bytes), { status, headers });
    });
    return;
  }
  session.protocol.registerBufferProtocol(scheme, ({ url }, answer) => {
    void reply(url, folder).then(({ status, headers, bytes }) =>
      answer({
        statusCode: status,
        headers,
        data: bytes,
        mimeType: headers["Content-Type"]?.split(";")[0] ?? "text/plain",
        charset: "utf-8",
      }),
    );
  });
}

async function reply(url: string, folder: string): Promise<Reply> {
  const common = { "Content-Security-Policy": contentPolicy, "X-Content-Type-Options": "nosniff" };
  const path = isOwn(url) ? fileOf(url, folder) : null;
  const type = path === null ? undefined : mimeTypes[extname(path)];
  const bytes = path === null || type === undefined ? null : await readFile(path).catch(() => null);
  if (bytes === null) {
    const headers = { ...common, "Content-Type": "text/plain; charset=utf-8" };
    return { status: 404, headers, bytes: Buffer.from("Nothing is here.\n") };
  }
  return { status: 200, headers: { ...common, "Content-Type": type ?? "" }, bytes };
}

/** @returns null for a path that leads out of the folder */
function fileOf(url: string, folder: string): string | null {
  let name: string;
  try {
    name = decodeURIComponent(new URL(url).pathname).slice(1) || "index.html";
  } catch {
    return null;
  }
  const path = normalize(join(folder, name));
  return !name.includes("\0") && path.startsWith(normalize(folder) + sep) ? path : null;
}
