import { open, readFile, rm, stat, utimes } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

const heartbeatMs = 2_000;
/** A holder that has not touched its lock for this long is gone, whatever its process id says. */
const staleMs = 30_000;

/**
 * Runs `work` while holding the lock file at `path`, so that two processes never write one download.
 * Waits for another holder (`onWait` is called once); the lock of a process that died is taken over.
 * Rejects with the signal's reason when it fires while waiting.
 */
export async function withLock<T>(
  path: string,
  work: () => Promise<T>,
  { signal, onWait }: { signal?: AbortSignal | undefined; onWait?: () => void } = {},
): Promise<T> {
  let waited = false;
  while (!(await take(path))) {
    if (!waited) onWait?.();
    waited = true;
    await sleep(200, undefined, { signal });
  }
  const heartbeat = setInterval(() => {
    const now = new Date();
    utimes(path, now, now).catch(() => {});
  }, heartbeatMs);
  try {
    return await work();
  } finally {
    clearInterval(heartbeat);
    await rm(path, { force: true });
  }
}

async function take(path: string): Promise<boolean> {
  try {
    const file = await open(path, "wx");
    await file.writeFile(String(process.pid)).finally(() => file.close());
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    if (await isStale(path)) await rm(path, { force: true });
    return false;
  }
}

async function isStale(path: string): Promise<boolean> {
  try {
    const { mtimeMs } = await stat(path);
    const age = Date.now() - mtimeMs;
    if (age > staleMs) return true;
    const pid = Number(await readFile(path, "utf8"));
    // A lock just made may still be empty.
    return pid > 0 ? !isAlive(pid) : age > heartbeatMs;
  } catch {
    return false;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
