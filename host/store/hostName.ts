/** Names of host processes: what one was at when it died is found by its name. */
import { readFileSync } from "node:fs";

/** Where the system tells when a process started, that is part of its name: numbers are used again. */
export function thisHost(): string {
  return nameOf(process.pid) ?? String(process.pid);
}

export function isAlive(host: string): boolean {
  const pid = Number(host.split(":")[0]);
  if (host.includes(":")) return nameOf(pid) === host;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** @returns null where there is no such process or no /proc */
function nameOf(pid: number): string | null {
  try {
    const status = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The command's name stands in brackets and may hold anything; start time is field 22 (proc(5)).
    const fields = status.slice(status.lastIndexOf(")") + 2).split(" ");
    return `${pid}:${fields[19]}`;
  } catch {
    return null;
  }
}
