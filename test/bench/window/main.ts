// What the window costs beside an engine on one thread: `npm run bench:window`. Chromium shows it, served by
// `scholia serve`; a document of Debian's is read by the small model, the fastest writer and so the hardest
// to keep up with.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { measureAnswers, measureLongDocument } from "./memory.ts";
import { type Served, serveWindow } from "./serve.ts";
import { measureStreaming } from "./streaming.ts";
import { measureTyping } from "./typing.ts";

const { values: options } = parseArgs({
  options: {
    /** Which parts; absent: all. */
    only: { type: "string", multiple: true, default: [] },
    repetitions: { type: "string", default: "3" },
    answers: { type: "string", default: "200" },
    turns: { type: "string", default: "500" },
  },
});

const parts: Record<string, (served: Served) => Promise<unknown>> = {
  streaming: (served) => measureStreaming(served, Number(options.repetitions)),
  typing: (served) => measureTyping(served, Number(options.turns)),
  answers: (served) => measureAnswers(served, Number(options.answers)),
  longDocument: measureLongDocument,
};

for (const [name, measure] of Object.entries(parts)) {
  if (options.only.length > 0 && !options.only.includes(name)) continue;
  const folder = await mkdtemp(join(tmpdir(), "scholia-window-"));
  const served = await serveWindow(folder);
  try {
    process.stdout.write(`${JSON.stringify({ [name]: await measure(served) }, null, 2)}\n`);
  } finally {
    await served.close();
    await rm(folder, { recursive: true, force: true });
  }
}
