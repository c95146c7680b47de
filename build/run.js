// Runs other programs for the set-up.
import { spawn } from "node:child_process";
import { SetupError } from "./report.js";

/**
 * Runs a program to its end. Its output goes to `onLine` line by line and is kept; standard input is
 * closed, so nothing can wait for an answer.
 * @param {string} program
 * @param {string[]} args
 * @param {{cwd?: string, env?: NodeJS.ProcessEnv, onLine?: (line: string) => void,
 *   signal?: AbortSignal}} [options]
 * @returns {Promise<{code: number, stdout: string, output: string}>} `output` has both streams;
 *   code 127 when there is no such program
 */
export function run(program, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ["ignore", "pipe", "pipe"],
      ...(options.cwd ? { cwd: options.cwd } : {}),
      ...(options.env ? { env: options.env } : {}),
      ...(options.signal ? { signal: options.signal } : {}),
    });
    let stdout = "";
    let output = "";
    /** @param {boolean} isStdout @returns {(text: string) => void} */
    const collect = (isStdout) => {
      let open = "";
      return (text) => {
        if (isStdout) stdout += text;
        output += text;
        const lines = (open + text).split(/[\r\n]+/);
        open = lines.pop() ?? "";
        for (const line of lines) options.onLine?.(line);
      };
    };
    child.stdout.setEncoding("utf8").on("data", collect(true));
    child.stderr.setEncoding("utf8").on("data", collect(false));
    child.on("error", (error) => {
      const missing = /** @type {NodeJS.ErrnoException} */ (error).code === "ENOENT";
      if (missing) resolve({ code: 127, stdout, output: `${program}: not found` });
      else reject(error);
    });
    child.on("close", (code) => resolve({ code: code ?? 1, stdout, output }));
  });
}

const shownLines = 15;

/**
 * The lines that say why a program failed: from the first error on, else the last ones.
 * @param {string} output
 */
export function essence(output) {
  const lines = output.trim().split("\n");
  const first = lines.findIndex((line) => /\berror\b/i.test(line));
  const start = first < 0 ? lines.length - shownLines : first - 2;
  return lines.slice(Math.max(0, start), Math.max(0, start) + shownLines).join("\n");
}

/**
 * Like {@link run}, and fails with `problem` and {@link essence} unless the program exits with 0.
 * @param {string} program
 * @param {string[]} args
 * @param {Parameters<typeof run>[2] & {problem: string}} options
 */
export async function mustRun(program, args, options) {
  const result = await run(program, args, options);
  if (result.code === 0) return result;
  throw new SetupError(`${options.problem}\n${essence(result.output)}`);
}
