// How soon a document that was read before answers, the model being resident: `npm run reopen`. Each
// repetition is a host of its own, so that no KV is left in memory: it loads the model by a question on
// another document, then asks the one whose KV lies on disk, whose checksums it verifies.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Answer } from "../../contract/answer.ts";
import type { Result } from "../../contract/errors.ts";
import { documentsDir } from "../../host/models/cache.ts";
import { type HostProcess, startHost } from "../../host/process.ts";

const { values: options } = parseArgs({
  options: {
    model: { type: "string", default: "qwen2.5-coder-0.5b" },
    /** A document of build/documents.ts, cut to so many characters. */
    document: { type: "string", default: "developers-reference.txt" },
    characters: { type: "string", default: "36000" },
    repetitions: { type: "string", default: "5" },
    threads: { type: "string", default: String(availableParallelism()) },
  },
});

const question =
  "Which steps does this reference ask of somebody who wants to become a maintainer, and who decides on the application in the end?";

const folder = await mkdtemp(join(tmpdir(), "scholia-reopen-"));
try {
  const text = await readFile(join(documentsDir(), options.document), "utf8");
  const path = join(folder, options.document);
  await writeFile(path, text.slice(0, Number(options.characters)));
  const other = join(folder, "other.txt");
  await writeFile(other, "The harbour master keeps the key of the lighthouse in a blue jar.\n");

  await inHost((host) => ask(host, path, 1));
  const rows = [];
  for (let i = 0; i < Number(options.repetitions); i++)
    rows.push(
      await inHost(async (host) => {
        await ask(host, other, 1);
        return summary(await ask(host, path, 1));
      }),
    );
  process.stdout.write(`${JSON.stringify({ rows, median: medianOf(rows) }, null, 2)}\n`);
} finally {
  await rm(folder, { recursive: true, force: true });
}

async function inHost<Value>(work: (host: HostProcess) => Promise<Value>): Promise<Value> {
  const host = startHost({ dataDir: join(folder, "data") });
  try {
    return await work(host);
  } finally {
    await host.close();
  }
}

async function ask({ client }: HostProcess, path: string, maxTokens: number): Promise<Answer> {
  const { model, threads } = options;
  const input = { path, question, model, threads: Number(threads), maxTokens };
  const result: Result<Answer> = await client.open("answer.ask", input).result();
  if (result.ok) return result.value;
  throw new Error(`${result.error.code}: ${result.error.message}`);
}

/** Seconds to the first token from the moment the document is parsed, and what stood where. */
function summary({ timing, coverage }: Answer) {
  return {
    firstTokenSeconds: timing.firstTokenSeconds,
    documentTokens: coverage.documentTokens,
    cachedOnDisk: timing.cachedOnDisk,
    cachedInMemory: timing.cachedInMemory,
    prefillTokens: timing.prefillTokens,
    prefillSeconds: timing.prefillSeconds,
    modelLoadSeconds: timing.modelLoadSeconds,
  };
}

function medianOf(rows: ReturnType<typeof summary>[]): number {
  const seconds = rows.map(({ firstTokenSeconds }) => firstTokenSeconds).sort((a, b) => a - b);
  return seconds[seconds.length >> 1]!;
}
