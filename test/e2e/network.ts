// Nothing leaves the machine while the command line, the host or a shell run: their processes get a guard
// that refuses and writes down. (The pages of browsers have `refusingProxy.ts`.)
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect } from "vitest";

const guard = fileURLToPath(new URL("networkGuard.cjs", import.meta.url));

/** What was asked of other machines, and refused. */
export interface Network {
  /** For the environment of a process of Node; this process's own has it already. */
  readonly env: NodeJS.ProcessEnv;
  /** Takes what was asked so far out of the record. */
  taken(): string[];
}

/** Guards all processes that this file's tests start; a file whose processes asked for anything fails. */
export function guardNetwork(): Network {
  const folder = mkdtempSync(join(tmpdir(), "scholia-network-"));
  const record = join(folder, "asked");
  const env = { NODE_OPTIONS: `--require ${guard}`, SCHOLIA_TEST_NETWORK: record };
  let seen = 0;
  const taken = () => {
    const all = linesOf(record);
    const fresh = all.slice(seen);
    seen = all.length;
    return fresh;
  };
  beforeAll(() => void Object.assign(process.env, env));
  afterAll(() => {
    for (const name of Object.keys(env)) delete process.env[name];
    const asked = taken();
    rmSync(folder, { recursive: true });
    expect(asked, "asked of other machines").toEqual([]);
  });
  return { env, taken };
}

function linesOf(path: string): string[] {
  try {
    return readFileSync(path, "utf8").split("\n").filter(Boolean);
  } catch {
    return [];
  }
}

/** Sockets of a process that other machines could reach or are reached by, as `/proc/net` has them. */
export function outsideSockets(pid: number): string[] {
  const inodes = new Set(readdirSync(`/proc/${pid}/fd`).map((fd) => inodeOf(pid, fd)));
  return ["tcp", "tcp6", "udp", "udp6"].flatMap((kind) =>
    linesOf(`/proc/net/${kind}`)
      .slice(1)
      .filter((line) => {
        const [, local = "", , , , , , , , inode = ""] = line.trim().split(/\s+/);
        return inodes.has(inode) && !isLoopback(local);
      }),
  );
}

/** Bytes of an address stand in the machine's own order there. */
const isLoopback = (address: string): boolean =>
  /^[0-9A-F]{6}7F:/.test(address) || address.startsWith("00000000000000000000000001000000:");

function inodeOf(pid: number, fd: string): string | undefined {
  try {
    return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1];
  } catch {
    // Closed meanwhile.
    return undefined;
  }
}
