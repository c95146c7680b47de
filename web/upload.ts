/** A document that a browser sends: its bytes go to the data folder, named by their hash, since the page
 * does not know where the file lies. */
import { createHash, randomUUID } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { join } from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { ScholiaError } from "../contract/errors.ts";
import { defaultLimits } from "../host/document/parser.ts";
import { copiesDir, fileName } from "../host/store/copies.ts";

/** @returns where the file lies now
 * @throws ScholiaError `document_too_large`, `document_empty`, `disk_full` */
export async function receiveDocument(
  request: IncomingMessage,
  name: string,
  dataDir: string,
): Promise<string> {
  const folder = copiesDir(dataDir);
  const unfinished = join(folder, `${randomUUID()}.unfinished`);
  await mkdir(folder, { recursive: true });
  const hash = createHash("sha256");
  let bytes = 0;
  const measure = new Transform({
    transform(chunk: Buffer, _encoding, next) {
      bytes += chunk.length;
      hash.update(chunk);
      next(bytes > defaultLimits.fileBytes ? tooLarge(name) : null, chunk);
    },
  });
  try {
    if (Number(request.headers["content-length"] ?? 0) > defaultLimits.fileBytes) {
      throw tooLarge(name);
    }
    await pipeline(request, measure, createWriteStream(unfinished));
    if (bytes === 0) throw new ScholiaError("document_empty", `${name} is empty (0 bytes).`);
    const place = join(folder, hash.digest("hex"));
    await mkdir(place, { recursive: true });
    const path = join(place, fileName(name));
    await rename(unfinished, path);
    return path;
  } catch (error) {
    await rm(unfinished, { force: true });
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    throw new ScholiaError("disk_full", "The disk of the data folder is full. Make room there.");
  }
}

function tooLarge(name: string): ScholiaError {
  const most = Math.floor(defaultLimits.fileBytes / 2 ** 20);
  return new ScholiaError(
    "document_too_large",
    `${name} has more than ${most} MB, the most that Scholia reads. Split it and open a part.`,
  );
}
