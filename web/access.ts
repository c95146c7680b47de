/** Who may talk to the loopback server: the browser that was opened with its token, from the server's
 * own pages. A page of another site can make a browser send requests here too, and a name of its own
 * can be made to lead to this machine (DNS rebinding); both are told apart by Host, Origin and a cookie
 * that other sites' requests do not carry. */
import { randomBytes, timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";

export interface Access {
  /** For the address that the person opens. */
  readonly token: string;
  /** Sets the token for the pages of this server; scripts can't read it. */
  readonly cookie: string;
  /** @returns why the request is refused; null when it is not */
  refusal(request: IncomingMessage, options: { needsOrigin: boolean }): Refusal | null;
  isToken(candidate: string | null): boolean;
}

export interface Refusal {
  status: 401 | 403 | 421;
  message: string;
}

/** @param port cookies do not tell ports apart, so it is part of the name */
export function createAccess(port: () => number): Access {
  const token = randomBytes(32).toString("base64url");
  const cookieName = () => `scholia-${port()}`;
  const isToken = (candidate: string | null) => {
    const [a, b] = [Buffer.from(candidate ?? ""), Buffer.from(token)];
    return a.length === b.length && timingSafeEqual(a, b);
  };
  return {
    token,
    get cookie() {
      return `${cookieName()}=${token}; Path=/; HttpOnly; SameSite=Strict`;
    },
    isToken,
    refusal({ headers }, { needsOrigin }) {
      const hosts = ["127.0.0.1", "localhost"].map((name) => `${name}:${port()}`);
      const { host = "", origin } = headers;
      if (!hosts.includes(host)) {
        return { status: 421, message: "This server answers to its own address only." };
      }
      const isForeign = origin !== undefined && origin !== `http://${host}`;
      const site = headers["sec-fetch-site"];
      const isCrossSite = site !== undefined && site !== "same-origin" && site !== "none";
      if (isForeign || isCrossSite || (needsOrigin && origin === undefined)) {
        return { status: 403, message: "Requests of other pages are refused." };
      }
      if (!isToken(readCookie(headers.cookie ?? "", cookieName()))) {
        return {
          status: 401,
          message:
            "Open the address that scholia serve printed: it holds the token for this server.",
        };
      }
      return null;
    },
  };
}

function readCookie(header: string, name: string): string | null {
  for (const part of header.split(";")) {
    const [key, value] = part.trim().split("=", 2);
    if (key === name) return value ?? null;
  }
  return null;
}
