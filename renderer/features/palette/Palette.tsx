import { Command } from "cmdk";
import { FileText, MessageSquare } from "lucide-react";
import { useEffect, useState } from "react";
import type { ChatEntry } from "../../../contract/chats.ts";
import { commandIds, commands, type Shortcuts, shortcutOf } from "../../commands.ts";
import { useApp, useAppStore } from "../../store/app.ts";
import { t } from "../../strings/index.ts";
import { Dialog } from "../../ui/Dialog.tsx";
import { Keys } from "../../ui/Keys.tsx";
import { pageNamed } from "../document/DocumentPane.tsx";
import styles from "./palette.module.css";

/** Commands, documents, chats and pages by their names. */
export function Palette() {
  const isOpen = useApp((app) => app.paletteOpen);
  const setOpen = useApp((app) => app.setPalette);
  if (!isOpen) return null;
  return (
    <Dialog title={t("palette.title")} isBare onClose={() => setOpen(false)}>
      <PaletteList onDone={() => setOpen(false)} />
    </Dialog>
  );
}

const noShortcuts: Shortcuts = {};

function PaletteList({ onDone }: { onDone(): void }) {
  const store = useAppStore();
  const [query, setQuery] = useState("");
  const documents = useApp((app) => app.documents);
  const detail = useApp((app) => app.document?.detail ?? null);
  const own = useApp((app) => (app.settings.window.shortcuts ?? noShortcuts) as Shortcuts);
  const chats = useFoundChats(query);
  const page = detail === null ? null : pageNamed(detail, query);
  const app = store.getState();
  const run = (action: () => void) => {
    onDone();
    action();
  };
  return (
    <Command label={t("palette.title")} className={styles.palette} loop>
      <Command.Input
        data-first
        value={query}
        onValueChange={setQuery}
        placeholder={t("palette.placeholder")}
        className={styles.input}
      />
      <Command.List className={styles.list} label={t("palette.title")}>
        <Command.Empty className={styles.empty}>{t("palette.none")}</Command.Empty>
        {page !== null && (
          <Command.Item
            className={styles.item}
            value={`page ${query}`}
            keywords={[query]}
            onSelect={() => run(() => app.goTo(page))}
          >
            <FileText size={15} aria-hidden />
            {t("palette.page", { page: query })}
          </Command.Item>
        )}
        <Command.Group heading={t("palette.commands")} className={styles.group}>
          {commandIds
            .filter((id) => id !== "palette.open" && (commands[id].isPossible?.(app) ?? true))
            .map((id) => {
              const keys = shortcutOf(id, own);
              return (
                <Command.Item
                  key={id}
                  className={styles.item}
                  value={id}
                  keywords={[t(`commands.${id}`)]}
                  onSelect={() => run(() => app.runCommand(id))}
                >
                  {t(`commands.${id}`)}
                  {keys !== null && <Keys keys={keys} />}
                </Command.Item>
              );
            })}
        </Command.Group>
        <Command.Group heading={t("palette.documents")} className={styles.group}>
          {documents?.map(({ id, title, name }) => (
            <Command.Item
              key={id}
              className={styles.item}
              value={id}
              keywords={[title, name]}
              onSelect={() => run(() => void app.openDocument(id))}
            >
              <FileText size={15} aria-hidden />
              {title}
            </Command.Item>
          ))}
        </Command.Group>
        {chats.length > 0 && (
          <Command.Group heading={t("palette.chats")} className={styles.group}>
            {chats.map((chat) => (
              <Command.Item
                key={chat.id}
                className={styles.item}
                value={chat.id}
                keywords={[query]}
                onSelect={() => run(() => void openChat(app, chat))}
              >
                <MessageSquare size={15} aria-hidden />
                <span>
                  {chat.title}
                  <small>{chat.excerpt ?? chat.documentTitle}</small>
                </span>
              </Command.Item>
            ))}
          </Command.Group>
        )}
      </Command.List>
    </Command>
  );
}

async function openChat(
  app: ReturnType<ReturnType<typeof useAppStore>["getState"]>,
  chat: ChatEntry,
) {
  await app.openDocument(chat.documentId);
  await app.openChat(chat.id);
  app.showPane("chat");
}

const pauseMs = 150;

/** Chats that hold these words, in all documents. */
function useFoundChats(query: string): ChatEntry[] {
  const find = useApp((app) => app.findChats);
  const [chats, setChats] = useState<ChatEntry[]>([]);
  useEffect(() => {
    const words = query.trim();
    if (words.length < 2) return setChats([]);
    let isWanted = true;
    const timer = setTimeout(async () => {
      const found = await find(words);
      if (isWanted) setChats(found);
    }, pauseMs);
    return () => {
      isWanted = false;
      clearTimeout(timer);
    };
  }, [query, find]);
  return chats;
}
