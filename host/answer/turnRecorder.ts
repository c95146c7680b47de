/** Writes a turn down while it is answered: its text every second, its answer or its error at the end. A
 * database that can't be written takes no answer away; it is said once. */
import type { Answer } from "../../contract/answer.ts";
import type { ContextShare } from "../../contract/chats.ts";
import { toErrorValue } from "../../contract/errors.ts";
import { listening, type RunSink } from "../channel.ts";
import type { Chats } from "../store/chats.ts";
import { ReadMapCollector } from "./readMap.ts";

const saveEveryMs = 1000;

export class TurnRecorder {
  /** Where the run reports to: the sink that was given, with an ear in it. */
  readonly sink: RunSink;
  private readonly chats: Chats;
  private readonly turnId: string;
  private readonly given: RunSink;
  private readonly readMap = new ReadMapCollector();
  private context: ContextShare | null = null;
  private text = "";
  private savedAt = performance.now();
  private hasComplained = false;

  /** @param sendsTrace whether the shell asked for trace frames, too */
  constructor(chats: Chats, turnId: string, given: RunSink, sendsTrace: boolean) {
    this.chats = chats;
    this.turnId = turnId;
    this.given = given;
    const heard = listening(given, {
      context: (context) => {
        this.context = context;
      },
      text: (text) => {
        this.text += text;
        this.saveSometimes();
      },
    });
    this.sink = {
      ...heard,
      trace: (trace) => {
        this.readMap.add(trace, this.text.length);
        if (sendsTrace) given.trace(trace);
      },
    };
  }

  answered(answer: Answer): void {
    const { context } = this;
    const map = context === null ? null : this.readMap.encode(answer.answer, context);
    this.save(() => this.chats.answered(this.turnId, answer, map));
  }

  failed(error: unknown): void {
    this.save(() => {
      if (this.text !== "") this.chats.writing(this.turnId, this.text);
      this.chats.failed(this.turnId, toErrorValue(error));
    });
  }

  private saveSometimes() {
    const now = performance.now();
    if (now - this.savedAt < saveEveryMs) return;
    this.savedAt = now;
    this.save(() => this.chats.writing(this.turnId, this.text));
  }

  private save(work: () => void) {
    try {
      work();
    } catch (error) {
      if (this.hasComplained) return;
      this.hasComplained = true;
      this.given.notice(`The chat could not be saved: ${toErrorValue(error).message}`);
    }
  }
}
