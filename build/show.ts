import { spawn } from "node:child_process";
import { root } from "./paths.ts";

/** Runs a program whose output the person sees. Returns its exit code; 1 when a signal ended it. */
export function show(
  program: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: root,
      stdio: ["ignore", "inherit", "inherit"],
      env: { ...process.env, ...env },
    });
    child.on("error", reject);
    child.on("exit", (code) => resolve(code ?? 1));
  });
}
