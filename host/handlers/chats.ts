/** Chats, their turns, and answers. */
import { ScholiaError } from "../../contract/errors.ts";
import { exportChat } from "../answer/exportChat.ts";
import { decodeReadMap } from "../answer/readMap.ts";
import type { RequestHandlers, RunHandlers } from "../channel.ts";
import { acted, type Parts } from "./parts.ts";

export function chatRequests({ library, changed }: Parts) {
  return {
    "chat.open": async ({ path, documentId, pages, chatId }) => {
      const { chats } = library;
      if (chatId !== undefined) {
        return { chatId, turns: chats.path(chatId, chats.shown(chatId)) };
      }
      const created = chats.create({
        documentId: documentId ?? null,
        path: path ?? (await library.documents.get(documentId ?? "")).path,
        pages: pages ?? null,
      });
      changed("chats", created);
      return { chatId: created, turns: [] };
    },
    "chats.list": async (filter) => library.chats.list(filter),
    "chat.get": async ({ chatId }) => library.chats.get(chatId),
    "chat.rename": async ({ chatId, title }) => {
      library.chats.rename(chatId, title);
      return acted(() => changed("chats", chatId));
    },
    "chat.remove": async ({ chatId }) => {
      library.chats.remove(chatId);
      return acted(() => changed("chats", chatId));
    },
    "chat.show": async ({ chatId, turnId }) => {
      library.chats.show(chatId, turnId);
      return acted(() => changed("chats", chatId));
    },
    "chat.readMap": async ({ turnId }) => {
      const { bytes } = library.chats.readMap(turnId);
      const map = bytes === null ? null : decodeReadMap(bytes);
      if (map !== null) return map;
      throw new ScholiaError("not_found", "What the heads read for this answer was not kept.");
    },
    "chat.export": async ({ chatId, format }) => exportChat(library.chats.get(chatId), format),
  } satisfies Partial<RequestHandlers>;
}

export function chatRuns({ queue, asker }: Parts) {
  return {
    "answer.ask": (input, sink) => queue.whileYielding(() => asker.ask(input, sink)),
  } satisfies Partial<RunHandlers>;
}
