// A process of its own that reads one document and sends back what came of it. Whatever the document
// does to it (a loop without end, all its memory, a fault in the PDF reader or in V8's WebAssembly),
// the host lives and ends it.
import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { Worker } from "node:worker_threads";
import { type ErrorValue, toErrorValue } from "../../contract/errors.ts";
import type { DocumentContent } from "./document.ts";
import { detectKind } from "./kind.ts";
import type { ReadLimits } from "./parser.ts";
import { parsers } from "./parsers.ts";

export interface ReadTask {
  path?: string;
  bytes?: Uint8Array;
  name: string;
  password?: string;
  limits: ReadLimits;
}

export type ReadMessage =
  | { type: "progress"; page: number; pages: number }
  | { type: "done"; content: DocumentContent }
  | { type: "failed"; error: ErrorValue };

const progressMilliseconds = 50;

async function readTask(task: ReadTask, post: (message: ReadMessage) => void): Promise<void> {
  const bytes = task.bytes ?? (await readFileUpTo(task.path ?? "", task.limits.fileBytes));
  const id = createHash("sha256").update(bytes).digest("hex");
  let posted = 0;
  const parser = await parsers[detectKind(bytes, task.name)]();
  const content = await parser.parse(
    { bytes, name: task.name, id },
    {
      limits: task.limits,
      ...(task.password !== undefined && { password: task.password }),
      onPage(page, pages) {
        const now = performance.now();
        if (now - posted < progressMilliseconds && page < pages) return;
        posted = now;
        post({ type: "progress", page, pages });
      },
    },
  );
  post({ type: "done", content });
}

/** The size was checked before, but a file may grow while it is read. */
async function readFileUpTo(path: string, limit: number): Promise<Uint8Array> {
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    const bytes = Buffer.alloc(Math.min(size, limit));
    let length = 0;
    while (length < bytes.length) {
      const { bytesRead } = await file.read(bytes, length, bytes.length - length, length);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    return bytes.subarray(0, length);
  } finally {
    await file.close();
  }
}

function readError(error: unknown, task: ReadTask): ErrorValue {
  const { code, syscall, message } = error as NodeJS.ErrnoException;
  if (syscall === undefined) return toErrorValue(error);
  return {
    code: "document_not_found",
    message: `${task.name} can't be read (${code}): ${message}.`,
  };
}

/** Ends this process when its time is over or its parent has died. It takes a thread of its own, since
 * a document may hold the main one; the host ends it earlier when it can. */
function watch(seconds: number): void {
  const body = `
    const parent = process.ppid;
    const end = performance.now() + ${(seconds + 5) * 1000};
    setInterval(() => {
      if (process.ppid === parent && performance.now() < end) return;
      process.kill(process.pid, "SIGKILL");
    }, 500);`;
  new Worker(body, { eval: true }).unref();
}

process.once("message", async (task: ReadTask) => {
  watch(task.limits.seconds);
  const post = (message: ReadMessage): void => {
    process.send?.(message);
  };
  await readTask(task, post).catch((error: unknown) =>
    post({ type: "failed", error: readError(error, task) }),
  );
});
// The host is gone.
process.once("disconnect", () => process.exit());
