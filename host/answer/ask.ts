/** prefill → kv → decode → answer: a question on a document that is in the context. */
import type { Answer, Coverage, Mode, Timing } from "../../contract/answer.ts";
import type { ChatTurn } from "../../contract/routes.ts";
import type { RunSink } from "../channel.ts";
import type { Document } from "../document/document.ts";
import type { Engine, GenerateReport, PrefillProgress } from "../engine/engine.ts";
import { budgetTokensOf } from "../models/headProfile.ts";
import {
  checkContext,
  computedTokens,
  documentNotices,
  enterInLibrary,
  modelOf,
  type OpenDocuments,
  pagesOf,
  pagesWithoutText,
  prefillDocument,
  reportPrefill,
  shareContext,
  titleOf,
} from "../prefill/readDocument.ts";
import type { ActiveProfile, ResidentEngine } from "../residentEngine.ts";
import type { Library } from "../store/library.ts";
import { layOutPrompt, type Piece } from "../tokens/prompt.ts";
import { type TokenizedSegment, tokenizeSegment } from "../tokens/tokenize.ts";
import { citationsOf, placesIn } from "./citations.ts";
import { citingHeads } from "./citingHeads.ts";
import { sentencesOf } from "./sentences.ts";
import { traceFrame } from "./traceFrame.ts";
import { documentTokens, type Written, writeAnswer } from "./writeAnswer.ts";

export interface Question {
  path: string;
  pages?: string | undefined;
  question: string;
  mode: Mode;
  /** Null: the default of the model's profile. */
  budgetTokens: number | null;
  temperature: number;
  seed: number;
  maxTokens: number;
  trace: boolean;
}

/** With its budget. */
type DecidedQuestion = Question & { budgetTokens: number };

/** A document, and what it took to open it. */
export interface OpenedDocument {
  document: Document;
  seconds: number;
}

/** A sequence that ends with an answer, kept so that the next turn goes on from it. */
export interface LiveChat {
  chatId: string;
  engine: Engine;
  document: Document;
  sequence: number;
  /** The conversation that the sequence holds after the document, the last answer included. */
  pieces: Piece[];
}

/** The turns that come before the question, and the sequence that holds them, if one does. */
export interface ChatSoFar {
  chatId: string;
  turns: ChatTurn[];
  live: LiveChat | null;
}

/** @returns the answer, and with a chat the sequence that holds it */
export async function ask(
  question: Question,
  { document, seconds: documentSeconds }: OpenedDocument,
  resident: ResidentEngine,
  documents: OpenDocuments,
  library: Library,
  sink: RunSink,
  chat?: ChatSoFar,
): Promise<{ answer: Answer; live: LiveChat | null }> {
  const { engine } = resident;
  const isFollowUp = chat !== undefined && chat.turns.length > 0;
  const prompt = layOutPrompt(engine.model, document, chat?.turns ?? [], question.question);
  const notices = [...documentNotices(document), ...prompt.notices];
  // In a chat the document's notices were said at the beginning.
  if (!isFollowUp) for (const notice of notices) sink.notice(notice);

  const started = performance.now();
  const segment = await documents.tokenize(engine, document, prompt);
  const conversation = await tokenizeSegment(engine, prompt.conversation);
  const asked = isFollowUp
    ? (await engine.tokenize(question.question, false)).length
    : conversation.tokens.length;
  sink.context(
    shareContext(engine, document, segment, {
      historyTokens: conversation.tokens.length - asked,
      questionTokens: asked,
      answerTokens: question.maxTokens,
    }),
  );
  checkContext(engine, document, segment, conversation.tokens.length, question.maxTokens, {
    turns: chat?.turns.length ?? 0,
  });

  const prefilled = await prefillTurn(
    { engine, document, segment, conversation: prompt.conversation, live: chat?.live ?? null },
    sink,
  );
  const { sequence } = prefilled;
  try {
    const inContext = await tokensInContext(engine, sequence, segment);
    const budgetTokens = budgetTokensOf(
      question.budgetTokens,
      resident.profile.file,
      segment.tokens.length + conversation.tokens.length,
    );
    const decided = { ...question, budgetTokens };
    const written = await write(resident, sequence, segment, decided, sink, started);
    const [attention] = written.attention;
    const citations = citationsOf(
      written.text,
      sentencesOf(written.text),
      document,
      attention!,
      placesIn(segment),
    );
    await enterInLibrary(engine, sequence, { document, segment, complete: true }, library, sink);
    const answer: Answer = {
      answer: written.text,
      stop: written.report.stop,
      citations,
      coverage: coverageOf(document, segment, inContext, decided, resident.profile, written.report),
      timing: timingOf(prefilled, written, {
        modelLoadSeconds: resident.loadSeconds,
        documentSeconds,
      }),
      memory: await engine.memory(),
      model: modelOf(engine),
      document: { id: document.id, path: question.path, title: titleOf(document) },
      notices,
    };
    if (chat === undefined) {
      await engine.release(sequence);
      return { answer, live: null };
    }
    const pieces: Piece[] = [...prompt.conversation, { text: written.text, part: "answer" }];
    return { answer, live: { chatId: chat.chatId, engine, document, sequence, pieces } };
  } catch (error) {
    await engine.release(sequence);
    throw error;
  }
}

interface Turn {
  engine: Engine;
  document: Document;
  segment: TokenizedSegment;
  conversation: Piece[];
  live: LiveChat | null;
}

interface Prefilled {
  sequence: number;
  computed: number;
  memory: number;
  disk: number;
  seconds: number;
}

/** Brings document and conversation into a sequence: on from the last turn where the sequence is
 * still there, else from the document's saved KV. */
async function prefillTurn(turn: Turn, sink: RunSink): Promise<Prefilled> {
  const { engine, live, conversation } = turn;
  if (live !== null && goesOn(live, turn)) {
    const held = (await engine.sequenceTokens(live.sequence)).length;
    const rest = conversation.slice(live.pieces.length);
    const progress = await prefillPieces(engine, live.sequence, rest, sink);
    const found = { memory: held, disk: 0, computed: 0, seconds: 0 };
    return { sequence: live.sequence, ...add(found, progress) };
  }
  if (live?.engine === engine) await engine.release(live.sequence);
  const { sequence, progress } = await prefillDocument(engine, turn.segment, sink);
  const asked = await prefillPieces(engine, sequence, conversation, sink);
  return {
    sequence,
    ...add(add({ computed: 0, memory: 0, disk: 0, seconds: 0 }, progress), asked),
  };
}

/** A template may write earlier turns otherwise than they were first asked; then they are read
 * again. */
function goesOn(live: LiveChat, turn: Turn): boolean {
  return (
    live.engine === turn.engine &&
    live.document === turn.document &&
    live.pieces.length < turn.conversation.length &&
    live.pieces.every((piece, index) => {
      const other = turn.conversation[index];
      return piece.text === other?.text && piece.part === other.part;
    })
  );
}

const shownFromTokens = 1024;
/** Each measurement of the mass kept costs a dense step: one in so many takes 2 % of the rate of the 0.5B
 * at 16K tokens. */
const keptEverySteps = 32;

async function prefillPieces(
  engine: Engine,
  sequence: number,
  pieces: Piece[],
  sink: RunSink,
): Promise<PrefillProgress> {
  try {
    const { tokens } = await tokenizeSegment(engine, pieces);
    return await engine.prefill(sequence, tokens, {
      wantLogits: true,
      signal: sink.signal,
      onProgress: (now) => {
        // An earlier chat, read again.
        if (now.totalTokens >= shownFromTokens) reportPrefill(now, sink);
      },
    });
  } catch (error) {
    await engine.release(sequence);
    throw error;
  }
}

type Counts = Pick<Prefilled, "computed" | "memory" | "disk" | "seconds">;

function add(counts: Counts, progress: PrefillProgress): Counts {
  return {
    computed: counts.computed + computedTokens(progress),
    memory: counts.memory + progress.memoryTokens,
    disk: counts.disk + progress.diskTokens,
    seconds: counts.seconds + progress.seconds,
  };
}

/** Counts the document's tokens in the sequence that the answer is decoded from: the certificate
 * says what is there, not what was meant to be. */
async function tokensInContext(
  engine: Engine,
  sequence: number,
  segment: TokenizedSegment,
): Promise<number> {
  const held = await engine.sequenceTokens(sequence);
  let inContext = 0;
  segment.tokens.forEach((token, position) => {
    if (segment.start[position]! >= 0 && held[position] === token) inContext++;
  });
  return inContext;
}

interface TimedAnswer extends Written {
  firstTokenSeconds: number;
  depth: number;
}

/** Decodes the answer and streams its text and what the heads read. */
async function write(
  { engine, profile }: ResidentEngine,
  sequence: number,
  segment: TokenizedSegment,
  question: DecidedQuestion,
  sink: RunSink,
  started: number,
): Promise<TimedAnswer> {
  const document = documentTokens(segment);
  let firstTokenSeconds: number | null = null;
  const written = await writeAnswer(
    engine,
    sequence,
    segment,
    [citingHeads(engine.model, profile)],
    {
      mode: question.mode,
      budgetTokens: question.budgetTokens,
      temperature: question.temperature,
      seed: question.seed,
      maxTokens: question.maxTokens,
      // For the maps of a chat only.
      keptEverySteps: question.trace ? keptEverySteps : 0,
      signal: sink.signal,
      onPiece: (piece, trace) => {
        firstTokenSeconds ??= secondsSince(started);
        const frame = question.trace && trace !== null ? traceFrame(trace, document) : null;
        if (frame !== null) sink.trace(frame);
        sink.text(piece);
      },
    },
  );
  const depth = (await engine.sequenceTokens(sequence)).length;
  return { ...written, firstTokenSeconds: firstTokenSeconds ?? 0, depth };
}

function coverageOf(
  document: Document,
  segment: TokenizedSegment,
  inContext: number,
  question: DecidedQuestion,
  profile: ActiveProfile,
  report: GenerateReport,
): Coverage {
  const perStep = (total: number) => (report.steps > 0 ? total / report.steps : 0);
  const isSparse = question.mode === "ab-sparse";
  return {
    documentTokens: segment.documentTokens,
    tokensInContext: inContext,
    pages: pagesOf(document),
    documentPages: document.wholePageCount,
    pagesWithoutText: pagesWithoutText(document),
    mode: question.mode,
    budgetTokens: isSparse ? question.budgetTokens : null,
    profile: isSparse ? profile.name : "none",
    kvBytesPerToken: perStep(report.kvBytes),
    digestBytesPerToken: perStep(report.digestBytes),
    denseBytesPerToken: perStep(report.denseBytes),
  };
}

function timingOf(
  prefilled: Prefilled,
  written: TimedAnswer,
  before: Pick<Timing, "modelLoadSeconds" | "documentSeconds">,
): Timing {
  const { report } = written;
  return {
    prefillTokens: prefilled.computed,
    cachedTokens: prefilled.memory + prefilled.disk,
    cachedInMemory: prefilled.memory,
    cachedOnDisk: prefilled.disk,
    prefillSeconds: prefilled.seconds,
    prefillTokensPerSecond: rate(prefilled.computed, prefilled.seconds),
    decodeTokens: report.tokens.length,
    decodeSeconds: report.seconds,
    decodeTokensPerSecond: rate(report.steps, report.seconds),
    depth: written.depth,
    firstTokenSeconds: written.firstTokenSeconds,
    ...before,
  };
}

function rate(tokens: number, seconds: number): number {
  return seconds > 0 ? tokens / seconds : 0;
}

function secondsSince(start: number): number {
  return (performance.now() - start) / 1000;
}
