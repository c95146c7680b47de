import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";

export interface RefusingProxy {
  /** What a browser takes as its proxy. Loopback addresses go past it. */
  readonly server: string;
  taken(): string[];
  close(): Promise<void>;
}

/** A proxy that lets nothing through. */
export async function startRefusingProxy(): Promise<RefusingProxy> {
  let asked: string[] = [];
  const server: Server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    response.writeHead(403).end();
  });
  server.on("connect", (request, socket) => {
    asked.push(`CONNECT ${request.url}`);
    socket.end("HTTP/1.1 403 Refused\r\n\r\n");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    server: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    taken() {
      const all = asked;
      asked = [];
      return all;
    },
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}
