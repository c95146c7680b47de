/** document → tokens → prefill: a document's text in the model's context, its KV taken from memory or
 * disk where it is known and saved as it grows. */
import { realpath, stat } from "node:fs/promises";
import { basename } from "node:path";
import type { ContextShare } from "../../contract/chats.ts";
import { ScholiaError } from "../../contract/errors.ts";
import type { ReadReport } from "../../contract/routes.ts";
import type { RunSink } from "../channel.ts";
import type { Document } from "../document/document.ts";
import { readDocument as parseDocument } from "../document/read.ts";
import type { Engine, PrefillProgress } from "../engine/engine.ts";
import { chunkTokens, type ResidentEngine } from "../residentEngine.ts";
import { bytesOf } from "../store/files.ts";
import type { Library } from "../store/library.ts";
import { runTokens } from "../store/reads.ts";
import { layOutPrompt, type Prompt } from "../tokens/prompt.ts";
import { type TokenizedSegment, tokenizeSegment } from "../tokens/tokenize.ts";
import { checkFit } from "./fit.ts";

type Reporting = Pick<RunSink, "progress" | "notice" | "signal">;

/** Documents and their tokens, remembered for the next question. */
export class OpenDocuments {
  private readonly documents = new Map<string, Document>();
  private readonly segments = new Map<string, TokenizedSegment>();

  /** @throws ScholiaError a `document_…` code or `cancelled` */
  async open(path: string, pages: string | undefined, sink: Reporting): Promise<Document> {
    const key = JSON.stringify([await identity(path), pages ?? null]);
    const known = recall(this.documents, key);
    if (known !== undefined) return known;
    const started = performance.now();
    const result = await parseDocument(path, {
      ...(pages === undefined ? {} : { pages }),
      signal: sink.signal,
      onProgress: ({ page, pages: total }) =>
        sink.progress({
          phase: "document",
          done: page,
          total,
          unit: "pages",
          seconds: (performance.now() - started) / 1000,
          rate: null,
          secondsLeft: null,
        }),
    });
    if (!result.ok) throw new ScholiaError(result.error.code, result.error.message);
    remember(this.documents, key, result.value);
    return result.value;
  }

  /** The document's segment of a prompt, as tokens. */
  async tokenize(engine: Engine, document: Document, prompt: Prompt): Promise<TokenizedSegment> {
    const key = JSON.stringify([engine.model.fingerprint, document.id, pagesOf(document)]);
    const known = recall(this.segments, key);
    if (known !== undefined) return known;
    const segment = await tokenizeSegment(engine, prompt.document, beginning(engine, prompt));
    remember(this.segments, key, segment);
    return segment;
  }
}

const rememberedAtMost = 4;

function recall<Value>(map: Map<string, Value>, key: string): Value | undefined {
  const value = map.get(key);
  if (value !== undefined) remember(map, key, value);
  return value;
}

/** Puts the entry last, and forgets the first when there are too many. */
function remember<Value>(map: Map<string, Value>, key: string, value: Value) {
  map.delete(key);
  map.set(key, value);
  const [first] = map.keys();
  if (map.size > rememberedAtMost && first !== undefined) map.delete(first);
}

/** The file as it is now: when it changes, it is another document. */
async function identity(path: string): Promise<unknown[]> {
  try {
    const real = await realpath(path);
    const { size, mtimeMs, ino } = await stat(real);
    return [real, size, mtimeMs, ino];
  } catch {
    return [path];
  }
}

/** The beginning-of-text token, where the model wants one and its template writes none. */
function beginning(engine: Engine, prompt: Prompt): number | undefined {
  const { addsBos, bosPiece } = engine.model;
  const written = prompt.document[0]?.text.startsWith(bosPiece) === true;
  return addsBos && engine.bosToken >= 0 && !written ? engine.bosToken : undefined;
}

/** The chosen pages, as `--pages` takes them. */
export function pagesOf(document: Document): string {
  const ranges = document.selection?.ranges;
  if (ranges !== undefined) return ranges.replaceAll("–", "-").replaceAll(" ", "");
  const last = document.pages.at(-1)?.number ?? 1;
  return last === 1 ? "1" : `1-${last}`;
}

export function pagesWithoutText(document: Document): number[] {
  return document.pages
    .filter(({ start, end }) => document.text.slice(start, end).trim() === "")
    .map(({ number }) => number);
}

export function titleOf(document: Document): string {
  return document.title ?? document.name;
}

/** What the extraction found that a reader should know. */
export function documentNotices(document: Document): string[] {
  const { counts, summary, notes } = document.report;
  return counts.text === document.pages.length ? notes : [summary, ...notes];
}

/** @throws ScholiaError `context_exceeded` unless document, conversation and answer fit. */
export function checkContext(
  engine: Engine,
  document: Document,
  segment: TokenizedSegment,
  conversationTokens: number,
  answerTokens: number,
  { turns } = { turns: 0 },
) {
  checkFit({
    turns,
    contextTokens: engine.model.contextTokens,
    documentTokens: segment.documentTokens,
    aroundTokens: segment.tokens.length - segment.documentTokens,
    questionTokens: conversationTokens,
    answerTokens,
    pages: tokensOfPages(document, segment),
  });
}

/** How the context is shared out: of the document here, of the conversation from the caller. */
export function shareContext(
  engine: Engine,
  document: Document,
  segment: TokenizedSegment,
  rest: Pick<ContextShare, "historyTokens" | "questionTokens" | "answerTokens">,
): ContextShare {
  return {
    documentTokens: segment.documentTokens,
    aroundTokens: segment.tokens.length - segment.documentTokens,
    leadingTokens: Math.max(
      0,
      segment.start.findIndex((start) => start >= 0),
    ),
    contextTokens: engine.model.contextTokens,
    pages: tokensOfPages(document, segment),
    ...rest,
  };
}

/** Tokens of each page with the mark before it. */
export function tokensOfPages(document: Document, segment: TokenizedSegment) {
  const counts = new Map<number, number>();
  let sinceLastPage = 0;
  for (const start of segment.start) {
    sinceLastPage++;
    if (start < 0) continue;
    const { number } = document.pageOf(start);
    const isFirstPage = counts.size === 0;
    // What stands before the first page is not a page's.
    counts.set(number, (counts.get(number) ?? 0) + (isFirstPage ? 1 : sinceLastPage));
    sinceLastPage = 0;
  }
  return [...counts].map(([number, tokens]) => ({ number, tokens }));
}

/** Prefills a document's segment on a new sequence and saves it as it goes.
 * @param onStop what is to be done with the sequence of a read that was stopped
 * @returns the sequence, to be released by the caller
 * @throws ScholiaError `cancelled` with what is kept, `out_of_memory` … */
export async function prefillDocument(
  engine: Engine,
  segment: TokenizedSegment,
  sink: Reporting,
  onStop: (sequence: number) => Promise<unknown> = async () => {},
): Promise<{ sequence: number; progress: PrefillProgress }> {
  const sequence = await engine.createSequence();
  let last: PrefillProgress | null = null;
  try {
    const progress = await engine.prefill(sequence, segment.tokens, {
      persist: true,
      wantLogits: false,
      signal: sink.signal,
      onProgress: (now) => {
        last = now;
        reportPrefill(now, sink);
      },
    });
    if (progress.storeError !== null) {
      sink.notice(`The read could not be saved: ${progress.storeError.message}`);
    }
    if (progress.brokenTokens > 0) {
      sink.notice(
        `${progress.brokenTokens.toLocaleString("en")} saved tokens were damaged on disk; they were read again.`,
      );
    }
    return { sequence, progress };
  } catch (error) {
    const isStopped = error instanceof ScholiaError && error.code === "cancelled";
    if (isStopped) await onStop(sequence);
    await engine.release(sequence);
    if (!isStopped) throw error;
    throw new ScholiaError("cancelled", stoppedReading(last, segment.tokens.length));
  }
}

function stoppedReading(last: PrefillProgress | null, total: number): string {
  const count = (tokens: number) => tokens.toLocaleString("en");
  return (
    `Stopped after ${count(last?.doneTokens ?? 0)} of ${count(total)} tokens. ` +
    "What is read is kept: the same command goes on from there."
  );
}

export function reportPrefill(now: PrefillProgress, sink: Reporting) {
  const computed = now.doneTokens - now.memoryTokens - now.diskTokens;
  // The rate falls with depth, so the last chunk says more of what is left than the mean.
  const rate = now.tokensPerSecond > 0 ? now.tokensPerSecond : null;
  sink.progress({
    phase: "prefill",
    done: now.doneTokens,
    total: now.totalTokens,
    unit: "tokens",
    seconds: now.seconds,
    rate: computed > 0 ? rate : null,
    secondsLeft: rate === null ? null : (now.totalTokens - now.doneTokens) / rate,
  });
}

/** Tokens that a prefill computed. */
export function computedTokens(progress: PrefillProgress): number {
  return progress.doneTokens - progress.memoryTokens - progress.diskTokens;
}

export interface ReadInput {
  path: string;
  pages?: string | undefined;
  maxTokens: number;
}

/** `scholia read`: prefills and saves a document. */
export async function read(
  input: ReadInput,
  document: Document,
  resident: ResidentEngine,
  documents: OpenDocuments,
  library: Pick<Library, "reads">,
  sink: Reporting & Pick<RunSink, "context">,
): Promise<ReadReport> {
  const { engine } = resident;
  const notices = documentNotices(document);
  for (const notice of notices) sink.notice(notice);
  const prompt = layOutPrompt(engine.model, document, [], "?");
  const segment = await documents.tokenize(engine, document, prompt);
  const conversation = await tokenizeSegment(engine, prompt.conversation);
  sink.context(
    shareContext(engine, document, segment, {
      historyTokens: 0,
      questionTokens: conversation.tokens.length,
      answerTokens: input.maxTokens,
    }),
  );
  checkContext(engine, document, segment, conversation.tokens.length, input.maxTokens);
  const enter = (sequence: number, complete: boolean) =>
    enterInLibrary(engine, sequence, { document, segment, complete }, library, sink);
  const { sequence, progress } = await prefillDocument(engine, segment, sink, (stopped) =>
    enter(stopped, false),
  );
  try {
    const saved = await enter(sequence, true);
    const computed = computedTokens(progress);
    return {
      document: { id: document.id, path: input.path, title: titleOf(document) },
      pages: pagesOf(document),
      documentPages: document.wholePageCount,
      pagesWithoutText: pagesWithoutText(document),
      documentTokens: segment.documentTokens,
      readTokens: segment.tokens.length,
      prefillTokens: computed,
      cachedInMemory: progress.memoryTokens,
      cachedOnDisk: progress.diskTokens,
      prefillSeconds: progress.seconds,
      prefillTokensPerSecond: progress.seconds > 0 ? computed / progress.seconds : 0,
      ...saved,
      model: modelOf(engine),
      notices,
    };
  } finally {
    await engine.release(sequence);
  }
}

export function modelOf(engine: Engine) {
  const { name, fingerprint } = engine.model;
  return { name, fingerprint, device: engine.device };
}

interface LibraryEntry {
  document: Document;
  segment: TokenizedSegment;
  /** False for a read that was stopped. */
  complete: boolean;
}

/** Writes down what was read, where it lies and when it was last used. When that can't be written, the
 * read is good all the same, and a notice says so. */
export async function enterInLibrary(
  engine: Engine,
  sequence: number,
  { document, segment, complete }: LibraryEntry,
  library: Pick<Library, "reads">,
  sink: Pick<RunSink, "notice">,
): Promise<{ key: string; runs: number; storedBytes: number }> {
  const key = await engine.sequenceKey(sequence);
  const paths = await engine.storedRuns(sequence);
  const sizes = await bytesOf(paths);
  try {
    library.reads.enter({
      key,
      documentId: document.id,
      model: { name: engine.model.name, fingerprint: engine.model.fingerprint },
      pages: pagesOf(document),
      chunkTokens,
      tokens: segment.tokens.length,
      documentTokens: segment.documentTokens,
      storedTokens: Math.min(segment.tokens.length, paths.length * runTokens),
      complete,
      runs: paths.map((path, index) => ({ file: basename(path), bytes: sizes[index] ?? 0 })),
    });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    sink.notice(`The library could not be brought up to date: ${reason}`);
  }
  return { key, runs: paths.length, storedBytes: sizes.reduce((sum, bytes) => sum + bytes, 0) };
}
