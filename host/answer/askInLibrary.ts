/** A question as the host takes it: of a document, in a chat or alone, of the whole or of what is read
 * so far. The engine's part is ask.ts. */
import type { Answer } from "../../contract/answer.ts";
import { ScholiaError } from "../../contract/errors.ts";
import type { RunParsed } from "../../contract/routes.ts";
import type { StepTimings } from "../../contract/timing.ts";
import { listening, type RunSink } from "../channel.ts";
import type { Document } from "../document/document.ts";
import { budgetTokensOf } from "../models/headProfile.ts";
import { PrefillRates, recordDecode } from "../prefill/rateRecorder.ts";
import type { OpenDocuments } from "../prefill/readDocument.ts";
import type { EngineRoom, ResidentEngine } from "../residentEngine.ts";
import type { Library } from "../store/library.ts";
import { ask, type LiveChat } from "./ask.ts";
import { timeSteps } from "./timeSteps.ts";
import { TurnRecorder } from "./turnRecorder.ts";

export interface AskDependencies {
  library: Library;
  documents: OpenDocuments;
  room: EngineRoom;
  openDocument(
    input: {
      path?: string | undefined;
      documentId?: string | undefined;
      pages?: string | undefined;
    },
    sink: RunSink,
  ): Promise<{ document: Document; path: string }>;
  /** The pages that are read, when the question is of what is read so far and reading goes on. */
  pagesReadSoFar(documentId: string): string | null;
  onAsked(turn: { runId: string; chatId: string; turnId: string }): void;
  onAnswered(chatId: string): void;
}

type Input = RunParsed<"answer.ask">;

export class Asker {
  private readonly given: AskDependencies;
  /** The chat of the last answer: its next turn goes on from there. */
  private live: LiveChat | null = null;

  constructor(given: AskDependencies) {
    this.given = given;
  }

  /** @throws ScholiaError what opening, reading and answering throw */
  async ask(input: Input, sink: RunSink): Promise<Answer> {
    const { chatId } = input;
    const pages = this.readSoFar(input);
    if (chatId === undefined) return this.answer(input, pages, sink, null);
    const { chats } = this.given.library;
    checkDocument(chats.documentOf(chatId).documentId, input.documentId);
    const { turnId, parentId } = chats.ask(chatId, {
      question: input.question,
      parentId: input.parentId,
      runId: sink.runId,
      mode: input.mode,
      budgetTokens: input.budgetTokens,
      pages: pages ?? input.pages ?? null,
    });
    sink.turn({ chatId, turnId });
    this.given.onAsked({ runId: sink.runId, chatId, turnId });
    const recorder = new TurnRecorder(chats, turnId, sink, input.trace);
    try {
      const traced = { ...input, trace: true };
      const answer = await this.answer(traced, pages, recorder.sink, { chatId, parentId });
      recorder.answered(answer);
      return answer;
    } catch (error) {
      recorder.failed(error);
      throw error;
    } finally {
      this.given.onAnswered(chatId);
    }
  }

  /** Where the time of a step goes, in the context of the last answer.
   * @throws ScholiaError `not_found` before the first one */
  timeSteps(input: RunParsed<"timing.steps">, sink: RunSink): Promise<StepTimings> {
    return this.given.room.use(input, sink, async ({ engine, profile }) => {
      const { live } = this;
      if (live === null || live.engine !== engine) {
        throw new ScholiaError(
          "not_found",
          "Ask something in a chat first: steps are timed in the context of its answer.",
        );
      }
      const depth = (await engine.sequenceTokens(live.sequence)).length;
      const budgetTokens = budgetTokensOf(input.budgetTokens, profile.file, depth);
      const steps = { budgetTokens, steps: input.steps };
      return timeSteps(engine, live.sequence, steps, sink.signal);
    });
  }

  private readSoFar({ readSoFar, documentId }: Input): string | null {
    return readSoFar && documentId !== undefined ? this.given.pagesReadSoFar(documentId) : null;
  }

  private async answer(
    input: Input,
    pagesSoFar: string | null,
    sink: RunSink,
    turn: { chatId: string; parentId: string | null } | null,
  ): Promise<Answer> {
    const { library, documents, room, openDocument } = this.given;
    const started = performance.now();
    const chosen = pagesSoFar === null ? input : { ...input, pages: pagesSoFar };
    const { document, path } = await openDocument(chosen, sink);
    const opened = { document, seconds: (performance.now() - started) / 1000 };
    if (turn !== null) library.chats.bind(turn.chatId, document.id);
    const rates = new PrefillRates();
    const heard = listening(sink, { progress: (progress) => rates.progress(progress) });
    return room.use(input, sink, async (resident) => {
      const chat =
        turn === null
          ? undefined
          : {
              chatId: turn.chatId,
              turns: library.chats.path(turn.chatId, turn.parentId),
              live: await this.takeLive(turn.chatId, resident),
            };
      const question = { ...input, path };
      const { answer, live } = await ask(
        question,
        opened,
        resident,
        documents,
        library,
        heard,
        chat,
      );
      if (turn !== null) this.live = live;
      rates.record(library.rates, answer.model);
      recordDecode(library.rates, answer);
      if (pagesSoFar !== null) answer.coverage.readSoFar = true;
      return answer;
    });
  }

  /** The sequence of this chat's last turn; another chat's is given up. */
  private async takeLive(chatId: string, { engine }: ResidentEngine): Promise<LiveChat | null> {
    const taken = this.live;
    this.live = null;
    if (taken === null || taken.engine !== engine) return null;
    if (taken.chatId === chatId) return taken;
    await engine.release(taken.sequence);
    return null;
  }
}

/** A chat is about one document; one that was begun with a path may not know it yet. */
function checkDocument(ofChat: string | null, asked: string | undefined): void {
  if (ofChat === null || asked === undefined || ofChat === asked) return;
  throw new ScholiaError(
    "invalid_argument",
    "This chat is about another document. Begin a new one for this document.",
  );
}
