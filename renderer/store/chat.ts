import type { Answer } from "../../contract/answer.ts";
import type { Chat, Turn } from "../../contract/chats.ts";
import type { Run } from "../../contract/client.ts";
import type { ErrorValue, Result } from "../../contract/errors.ts";
import type { RunFrame } from "../../contract/stream.ts";
import { pace } from "../live/pace.ts";
import { traces } from "../live/traces.ts";
import { branchTo, keepTurns } from "./branches.ts";
import { engineChoice } from "./engine.ts";
import { activeItemOf, pagesInUse } from "./library.ts";
import { saidError } from "./saidError.ts";
import type { ChatSlice, Slice, Writing } from "./state.ts";

/** One is shown at a time, and each holds a strip for every sentence of its answer. */
const readMapsKept = 16;

export function createChatSlice({ get, set, link }: Slice): ChatSlice {
  let watched: Run<Answer> | null = null;

  const update = (runId: string, change: Partial<Writing>) =>
    set(({ writing }) => (writing?.runId === runId ? { writing: { ...writing, ...change } } : {}));

  /** Shows a run until it ends or another chat is opened. */
  const watch = async (run: Run<Answer>, writing: Writing) => {
    watched?.detach();
    watched = run;
    set({ writing });
    const text = bufferText((whole) => update(run.runId, { text: whole, tokens: traces.steps }));
    for await (const frame of run) {
      if (watched !== run) return;
      take(run, frame, text);
    }
    text.flush();
    const result = await run.result();
    if (watched !== run) return;
    watched = null;
    await ended(get().writing, result.ok ? null : result.error);
  };

  const take = (run: Run<Answer>, frame: RunFrame, text: TextBuffer) => {
    switch (frame.kind) {
      case "turn":
        traces.begin(frame.turnId);
        update(run.runId, { chatId: frame.chatId, turnId: frame.turnId });
        set({ focus: { turnId: frame.turnId, sentence: null } });
        void loadChat(frame.chatId, false);
        void refreshList();
        return;
      case "context":
        return set({ context: frame.context });
      case "progress":
        return update(run.runId, { progress: frame.progress });
      case "notice": {
        const notices = get().writing?.notices ?? [];
        return update(run.runId, { notices: [...notices, frame.message] });
      }
      case "text":
        return text.add(frame.text);
      case "trace":
        return traces.push(frame.trace, frame.dropped);
      case "replay": {
        text.restart(frame.text);
        if (frame.context !== null) set({ context: frame.context });
        if (frame.turn !== null && traces.turnId !== frame.turn.turnId)
          traces.begin(frame.turn.turnId);
        return update(run.runId, { progress: frame.progress, notices: frame.notices });
      }
    }
  };

  /** The answer is over: what the host has kept of it is shown in its place. */
  const ended = async (writing: Writing | null, error: ErrorValue | null) => {
    if (writing === null) return;
    if (writing.chatId !== null && get().chat?.id === writing.chatId)
      await loadChat(writing.chatId, false);
    set({ writing: null });
    if (writing.turnId !== null) {
      await loadReadMap(writing.turnId);
      set({ focus: { turnId: writing.turnId, sentence: null } });
    } else if (error !== null) {
      // Nothing of the question is kept by the host yet: it goes back to where it was typed.
      set(({ draft }) => ({
        askError: error.code === "cancelled" ? null : error,
        draft: draft === "" ? writing.question : draft,
      }));
    }
    void refreshList();
  };

  const refreshList = async () => {
    const documentId = get().document?.id;
    if (documentId === undefined) return;
    const result = await link.request("chats.list", { documentId });
    if (result.ok && get().document?.id === documentId) set({ chats: result.value });
  };

  const loadChat = async (chatId: string, join: boolean) => {
    const result = await link.request("chat.get", { chatId });
    if (!result.ok) return saidError(get(), result.error);
    const chat = { ...result.value, tree: keepTurns(get().chat?.tree ?? [], result.value.tree) };
    if (get().document?.id !== chat.documentId) return;
    set({ chat });
    if (join) joinWriting(chat);
  };

  const joinWriting = (chat: Chat) => {
    const turn = chat.tree.findLast(({ runId }) => runId !== null);
    if (turn?.runId == null || get().writing?.runId === turn.runId) return;
    void watch(link.attach<Answer>(turn.runId), writingOf(turn.runId, chat.id, turn));
  };

  /** Shows a chat that was asked in elsewhere, whatever its document. */
  const follow = async (chatId: string) => {
    const result = await link.request("chat.get", { chatId });
    if (!result.ok) return;
    const { documentId } = result.value;
    if (get().document?.id === documentId) return get().openChat(chatId);
    // Its latest chat is this one.
    await get().openDocument(documentId);
  };

  const loadReadMap = async (turnId: string) => {
    if (get().readMaps[turnId] !== undefined) return;
    const result = await link.request("chat.readMap", { turnId });
    // An answer of another time may have none; the strip then stays empty, and says so.
    if (!result.ok) return;
    set(({ readMaps }) => {
      const kept = Object.entries(readMaps).slice(1 - readMapsKept);
      return { readMaps: { ...Object.fromEntries(kept), [turnId]: result.value } };
    });
  };

  /** The open chat; a new one begins with its first question. */
  const chatFor = async (
    documentId: string,
  ): Promise<Result<{ id: string; pages: string | null }>> => {
    const { chat } = get();
    if (chat !== null) return { ok: true, value: chat };
    const pages = pagesInUse(get(), documentId);
    const made = await link.request("chat.open", {
      documentId,
      ...(pages === null ? {} : { pages }),
    });
    return made.ok ? { ok: true, value: { id: made.value.chatId, pages } } : made;
  };
  const shownOf = (chatId: string) => {
    const { chat } = get();
    return chat?.id === chatId ? chat.shown : null;
  };

  const leave = () => {
    watched?.detach();
    watched = null;
    set({ chat: null, writing: null, askError: null, focus: null, context: null });
  };

  return {
    chats: [],
    chat: null,
    writing: null,
    draft: "",
    about: null,
    askError: null,
    context: null,
    focus: null,
    readMaps: {},
    async openChatsOf(documentId) {
      leave();
      set({ chats: [], draft: "", about: null });
      await refreshList();
      const [last] = get().chats;
      if (last !== undefined && get().document?.id === documentId) await get().openChat(last.id);
    },
    async refreshChats(chatId) {
      await refreshList();
      const { chat } = get();
      if (chat !== null && (chatId === undefined || chatId === chat.id))
        await loadChat(chat.id, true);
    },
    async openChat(chatId) {
      leave();
      await loadChat(chatId, true);
      const { chat } = get();
      const last = branchTo(chat?.tree ?? [], chat?.shown ?? null).at(-1);
      if (last !== undefined) get().focusOn(last.id);
    },
    newChat() {
      leave();
      set({ narrowPane: "chat" });
    },
    closeChat: () => {
      leave();
      set({ chats: [] });
    },
    joinRun(chatId) {
      if (watched !== null) return;
      if (get().chat?.id === chatId) void loadChat(chatId, true);
      else if (get().isLensWindow) void follow(chatId);
    },
    setDraft: (draft) => set({ draft }),
    askAbout: (words) => set({ about: words, narrowPane: words === null ? "document" : "chat" }),
    async ask(question, options = {}) {
      const { document, settings, writing } = get();
      if (document === null || writing !== null || question.trim() === "") return;
      set({ askError: null, narrowPane: "chat" });
      const chat = await chatFor(document.id);
      if (!chat.ok) return set({ askError: chat.error, draft: question });
      const { id: chatId, pages } = chat.value;
      const parentId = options.parentId === undefined ? shownOf(chatId) : options.parentId;
      const mode = options.mode ?? settings.mode;
      const run = link.open("answer.ask", {
        documentId: document.id,
        ...(pages === null ? {} : { pages }),
        ...engineChoice(settings),
        question,
        mode,
        budgetTokens: options.budgetTokens ?? settings.budgetTokens,
        temperature: options.temperature ?? settings.temperature,
        maxTokens: settings.maxTokens,
        ...(options.seed === undefined ? {} : { seed: options.seed }),
        chatId,
        parentId,
        readSoFar: activeItemOf(get(), document.id) !== null,
        trace: true,
      });
      await watch(run, {
        ...beginning,
        runId: run.runId,
        chatId: null,
        turnId: null,
        parentId,
        question,
        mode,
      });
    },
    stopAnswer() {
      const { writing } = get();
      if (writing === null) return;
      update(writing.runId, { stopping: true });
      watched?.stop();
    },
    async showTurn(turnId) {
      const { chat } = get();
      if (chat === null) return;
      const result = await link.request("chat.show", { chatId: chat.id, turnId });
      if (!result.ok) return saidError(get(), result.error);
      await loadChat(chat.id, false);
      get().focusOn(turnId);
    },
    async renameChat(chatId, title) {
      const result = await link.request("chat.rename", { chatId, title });
      if (!result.ok) saidError(get(), result.error);
      await get().refreshChats(chatId);
    },
    async removeChat(chatId) {
      if (get().chat?.id === chatId) leave();
      const result = await link.request("chat.remove", { chatId });
      if (!result.ok) saidError(get(), result.error);
      await refreshList();
      void get().refreshDocuments();
    },
    async exportChat(format) {
      const { chat } = get();
      if (chat === null) return;
      const result = await link.request("chat.export", { chatId: chat.id, format });
      if (!result.ok) return saidError(get(), result.error);
      await get().saveFile(result.value.name, result.value.text);
    },
    async findChats(query) {
      const result = await link.request("chats.list", { query });
      return result.ok ? result.value : [];
    },
    focusOn(turnId, sentence = null) {
      set({ focus: turnId === null ? null : { turnId, sentence } });
      if (turnId !== null && get().writing?.turnId !== turnId) void loadReadMap(turnId);
    },
  };
}

const beginning = { text: "", tokens: 0, progress: null, notices: [], stopping: false };

const writingOf = (runId: string, chatId: string, turn: Turn): Writing => ({
  ...beginning,
  runId,
  chatId,
  turnId: turn.id,
  parentId: turn.parentId,
  question: turn.question,
  mode: turn.mode,
  text: turn.text,
});

interface TextBuffer {
  add(text: string): void;
  restart(text: string): void;
  flush(): void;
}

/** Text that arrives token by token goes to the screen when it is its turn. */
function bufferText(show: (whole: string) => void): TextBuffer {
  let whole = "";
  const soon = () => pace.ask("text", () => show(whole));
  return {
    add(text) {
      whole += text;
      soon();
    },
    restart(text) {
      whole = text;
      soon();
    },
    flush() {
      pace.forget("text");
      show(whole);
    },
  };
}

/** The turns that are shown, the one under way included. */
export function shownTurns(chat: Chat | null, writing: Writing | null): Turn[] {
  const tree = chat?.tree ?? [];
  return branchTo(tree, writing?.turnId ?? writing?.parentId ?? chat?.shown ?? null);
}
