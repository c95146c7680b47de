import { fork } from "node:child_process";
import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { basename } from "node:path";
import type { Result } from "../../contract/errors.ts";
import { processEnvironment, processFile } from "../places.ts";
import { Document, type Failure, failure } from "./document.ts";
import { defaultLimits, type ReadLimits } from "./parser.ts";
import type { ReadMessage, ReadTask } from "./readProcess.ts";
import { noTextError, selectPages } from "./selection.ts";

export interface ReadOptions {
  /** Physical pages to keep, e.g. `1-20,25`; all without it. The whole file is read either way. */
  pages?: string;
  password?: string;
  /** Name for a document given as bytes. */
  name?: string;
  limits?: Partial<ReadLimits>;
  signal?: AbortSignal;
  onProgress?: (progress: { page: number; pages: number }) => void;
}

/** Reads a document from a file or from its bytes, in a process that is ended when the document takes
 * too long, too much memory, or `signal` fires. Never rejects: what goes wrong is a value.
 * Errors: `document_not_found`, `document_empty`, `document_too_large`, `document_encrypted`,
 * `document_no_text`, `document_broken`, `document_timeout`, `document_binary`,
 * `document_unsupported`, `document_bad_range`, `cancelled`. */
export async function readDocument(
  source: string | Uint8Array,
  options: ReadOptions = {},
): Promise<Result<Document>> {
  const limits = { ...defaultLimits, ...options.limits };
  const fromFile = typeof source === "string";
  const name = options.name ?? (fromFile ? basename(source) : "The document");
  const refusal = fromFile
    ? await checkFile(source, name, limits)
    : checkBytes(source.length, name, limits);
  if (refusal) return refusal;

  const task: ReadTask = { name, limits };
  if (fromFile) task.path = source;
  else task.bytes = source;
  if (options.password !== undefined) task.password = options.password;
  const whole = await readInProcess(task, options);
  if (!whole.ok || options.pages === undefined) return whole;
  return selectPages(whole.value, options.pages);
}

async function checkFile(
  path: string,
  name: string,
  limits: ReadLimits,
): Promise<Failure | undefined> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => error);
  if (found instanceof Error) {
    const reason = found.code === "ENOENT" ? "There is no such file" : found.message;
    return failure("document_not_found", `${path} can't be opened. ${reason}.`);
  }
  if (found.isDirectory()) {
    const message = `${path} is a folder. Give a file in it.`;
    return failure("document_unsupported", message);
  }
  if (!found.isFile()) {
    return failure("document_unsupported", `${path} is no ordinary file.`);
  }
  const readable = await access(path, constants.R_OK).then(
    () => true,
    () => false,
  );
  if (!readable) {
    const message = `${path} may not be read by this user. Change its permissions or copy it.`;
    return failure("document_not_found", message);
  }
  return checkBytes(found.size, name, limits);
}

function checkBytes(bytes: number, name: string, limits: ReadLimits): Failure | undefined {
  if (bytes === 0) return failure("document_empty", `${name} is empty (0 bytes).`);
  if (bytes <= limits.fileBytes) return undefined;
  const message = `${name} has ${megabytes(bytes)} MB; Scholia reads files up to ${megabytes(limits.fileBytes)} MB. Split it and open a part.`;
  return failure("document_too_large", message);
}

const megabytes = (bytes: number): string => Math.ceil(bytes / 2 ** 20).toLocaleString("en");

/** A thread would not do: PDFium's WebAssembly in threads that come and go has crashed V8 (Node 24.9),
 * and the host with it. */
function readInProcess(task: ReadTask, options: ReadOptions): Promise<Result<Document>> {
  const { promise, resolve } = Promise.withResolvers<Result<Document>>();
  const child = fork(processFile("host/document/readProcess.ts"), {
    execArgv: [`--max-old-space-size=${Math.ceil(task.limits.memoryBytes / 2 ** 20)}`],
    env: processEnvironment(),
    serialization: "advanced",
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
  let result: Result<Document> | undefined;
  let lastWords = "";
  let reached = "";
  const end = (value: Result<Document>): void => {
    result ??= value;
    child.kill("SIGKILL");
  };
  const cancel = (): void => end(failure("cancelled", `Reading ${task.name} was cancelled.`));
  const timer = setTimeout(() => {
    const message = `Reading ${task.name} took longer than ${task.limits.seconds} s and was stopped${reached}. Print it to a new PDF, or split it.`;
    end(failure("document_timeout", message));
  }, task.limits.seconds * 1000);
  if (options.signal?.aborted) cancel();
  options.signal?.addEventListener("abort", cancel);

  child.on("message", (message: ReadMessage) => {
    if (message.type === "progress") {
      reached = ` after page ${message.page} of ${message.pages}`;
      options.onProgress?.({ page: message.page, pages: message.pages });
    } else if (message.type === "done") {
      end(noTextError(message.content) ?? { ok: true, value: new Document(message.content) });
    } else {
      end({ ok: false, error: message.error });
    }
  });
  child.stderr?.on("data", (words: Buffer) => {
    lastWords = (lastWords + words.toString()).slice(-4096);
  });
  child.on("error", (error) =>
    end(failure("internal", `The reading process can't be started: ${error.message}`)),
  );
  // Nothing is handed out before the process is gone and its memory free.
  child.on("close", (_code, signal) => {
    clearTimeout(timer);
    options.signal?.removeEventListener("abort", cancel);
    resolve(result ?? crashed(task, signal, lastWords));
  });
  child.send(task, () => {});
  return promise;
}

function crashed(task: ReadTask, signal: string | null, lastWords: string): Result<Document> {
  if (signal === "SIGKILL" || lastWords.includes("heap out of memory")) {
    const message = `Reading ${task.name} takes more memory than there is, or than ${megabytes(task.limits.memoryBytes)} MB, and was stopped. Split the file, or free memory.`;
    return failure("document_too_large", message);
  }
  if (signal) {
    const message = `${task.name} is damaged in a way that crashes its reader (${signal}). Print it to a new PDF, or get it again.`;
    return failure("document_broken", message);
  }
  const reason = lastWords.trim().split("\n").at(-1) ?? "";
  return failure("internal", `The process that read ${task.name} ended early. ${reason}`);
}
