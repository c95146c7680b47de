/** Pictures of pages, drawn in a process for each open PDF. */
import { type ChildProcess, fork } from "node:child_process";
import type { PageImage } from "../../../contract/documents.ts";
import { type Result, ScholiaError } from "../../../contract/errors.ts";
import { processEnvironment, processFile } from "../../places.ts";
import { defaultLimits } from "../parser.ts";
import type { PictureReply, PictureRequest, PictureTask } from "./pictureProcess.ts";

/** PDFs that are kept open. */
const openAtMost = 2;
const secondsAtMost = 30;

export class PagePictures {
  /** The one used last comes last. */
  private readonly painters = new Map<string, Painter>();

  /** @param key names the file and its state: a file that was changed is opened anew
   * @throws ScholiaError a `document_…` code */
  async draw(
    key: string,
    file: { path: string; name: string },
    page: number,
    width: number,
  ): Promise<PageImage> {
    const painter = this.painters.get(key) ?? new Painter(file, () => this.painters.delete(key));
    this.painters.delete(key);
    this.painters.set(key, painter);
    this.closeOldest();
    const result = await painter.draw(page, width);
    if (result.ok) return result.value;
    throw new ScholiaError(result.error.code, result.error.message);
  }

  close(): void {
    for (const painter of this.painters.values()) painter.close();
    this.painters.clear();
  }

  private closeOldest() {
    for (const [key, painter] of this.painters) {
      if (this.painters.size <= openAtMost) return;
      painter.close();
      this.painters.delete(key);
    }
  }
}

class Painter {
  private readonly child: ChildProcess;
  private readonly name: string;
  private readonly waiting = new Map<number, (result: Result<PageImage>) => void>();
  private nextId = 1;

  constructor(file: { path: string; name: string }, onEnd: () => void) {
    this.name = file.name;
    this.child = fork(processFile("host/document/pdf/pictureProcess.ts"), {
      env: processEnvironment(),
      serialization: "advanced",
      stdio: ["ignore", "ignore", "ignore", "ipc"],
    });
    const task: PictureTask = { ...file, memoryBytes: defaultLimits.memoryBytes };
    this.child.send(task, () => {});
    this.child.on("message", ({ id, result }: PictureReply) => this.settle(id, result));
    const ended = () => {
      onEnd();
      for (const id of [...this.waiting.keys()]) this.settle(id, this.failure("can't be drawn"));
    };
    this.child.once("error", ended);
    this.child.once("exit", ended);
  }

  draw(page: number, width: number): Promise<Result<PageImage>> {
    const id = this.nextId++;
    const request: PictureRequest = { id, page, width };
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.settle(id, this.failure(`took longer than ${secondsAtMost} s to draw`, page));
        // It draws one page after the other: a new process goes on with the others.
        this.close();
      }, secondsAtMost * 1000);
      this.waiting.set(id, (result) => {
        clearTimeout(timer);
        resolve(result);
      });
      this.child.send(request, (error) => {
        if (error !== null) this.settle(id, this.failure("can't be drawn", page));
      });
    });
  }

  close() {
    this.child.kill("SIGKILL");
  }

  private settle(id: number, result: Result<PageImage>) {
    this.waiting.get(id)?.(result);
    this.waiting.delete(id);
  }

  private failure(what: string, page?: number): Result<PageImage> {
    const where = page === undefined ? "A page" : `Page ${page}`;
    const message = `${where} of ${this.name} ${what}. Its text is there all the same.`;
    return { ok: false, error: { code: "document_broken", message } };
  }
}
