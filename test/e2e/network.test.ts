// The guard that the other files rely on: what it refuses, it writes down.
import { spawnSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { guardNetwork } from "./network.ts";
import { startRefusingProxy } from "./refusingProxy.ts";

const network = guardNetwork();

function node(code: string): string {
  const { stdout, stderr } = spawnSync(process.execPath, ["-e", code], {
    encoding: "utf8",
    timeout: 20_000,
  });
  return stdout + stderr;
}

describe("the guard", () => {
  test.each([
    ["fetch('http://example.org/')", "connect example.org"],
    ["require('node:net').connect(443, '192.0.2.1')", "connect 192.0.2.1"],
    ["require('node:https').get('https://example.org/')", "look up example.org"],
    ["require('node:dns').lookup('example.org', console.log)", "look up example.org"],
    ["require('node:dgram').createSocket('udp4').send('x', 53, '192.0.2.1')", "send to 192.0.2.1"],
    ["fetch('http://[2001:db8::1]/')", "connect 2001:db8::1"],
  ])("refuses %s", (code, asked) => {
    expect(node(code)).toContain("a test lets nothing leave the machine");
    expect(network.taken().map((line) => line.split(" (")[0])).toContain(asked);
  });

  test("lets a process talk to its own machine", () => {
    const out = node(
      "const http=require('node:http').createServer((q,a)=>a.end('here'));" +
        "http.listen(0,'127.0.0.1',async()=>{" +
        "const u='http://localhost:'+http.address().port;" +
        "console.log(await (await fetch(u)).text());http.close()})",
    );
    expect(out).toBe("here\n");
    expect(network.taken()).toEqual([]);
  });
});

test("the proxy refuses and writes down", async () => {
  const proxy = await startRefusingProxy();
  try {
    expect((await fetch(`${proxy.server}/elsewhere`)).status).toBe(403);
    expect(proxy.taken()).toEqual(["GET /elsewhere"]);
    expect(proxy.taken()).toEqual([]);
  } finally {
    await proxy.close();
  }
});
