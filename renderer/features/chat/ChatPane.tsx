import { ChevronDown, Download, MessageSquarePlus, Pencil, Trash2 } from "lucide-react";
import { useEffect, useLayoutEffect, useRef, useState } from "react";
import { formatAgo } from "../../format.ts";
import { useApp, useAppStore } from "../../store/app.ts";
import { shownTurns } from "../../store/chat.ts";
import { t } from "../../strings/index.ts";
import { IconButton } from "../../ui/Button.tsx";
import { Menu, MenuItem, MenuLabel, MenuLine } from "../../ui/Menu.tsx";
import { ScrollRegion } from "../../ui/ScrollRegion.tsx";
import { PreflightCard } from "../prefill/PreflightCard.tsx";
import { Composer } from "./Composer.tsx";
import styles from "./chat.module.css";
import { Suggestions } from "./Suggestions.tsx";
import { TurnView } from "./TurnView.tsx";
import { WritingFoot, WritingView } from "./WritingView.tsx";

/** Questions and answers about the open document. */
export function ChatPane() {
  const hasDocument = useApp((app) => app.document !== null);
  return (
    <section className={styles.pane} aria-label={t("chat.title")}>
      <ChatHeader />
      <Turns />
      <WritingFoot />
      {hasDocument && <Composer />}
    </section>
  );
}

function ChatHeader() {
  const store = useAppStore();
  const chat = useApp((app) => app.chat);
  const chats = useApp((app) => app.chats);
  const hasDocument = useApp((app) => app.document !== null);
  const { newChat, openChat, exportChat, removeChat, confirm, askForName } = store.getState();
  if (!hasDocument) return null;
  return (
    <header className={styles.paneHeader}>
      <Menu
        trigger={
          <button type="button" className={styles.chatTitle}>
            <span>{chat?.title ?? t("chat.new")}</span>
            <ChevronDown size={14} aria-hidden />
          </button>
        }
      >
        <MenuLabel>{t("chat.ofDocument")}</MenuLabel>
        {chats.length === 0 && <MenuLabel>{t("chat.none")}</MenuLabel>}
        {chats.map(({ id, title, lastUse, turns }) => (
          <MenuItem
            key={id}
            onSelect={() => void openChat(id)}
            detail={t("chat.detail", { count: turns, ago: formatAgo(lastUse) })}
          >
            {title}
          </MenuItem>
        ))}
        {chat !== null && (
          <>
            <MenuLine />
            <MenuItem
              icon={<Pencil size={14} />}
              onSelect={() => askForName({ kind: "chat", id: chat.id, name: chat.title })}
            >
              {t("rename")}
            </MenuItem>
            <MenuItem icon={<Download size={14} />} onSelect={() => void exportChat("markdown")}>
              {t("chat.exportMarkdown")}
            </MenuItem>
            <MenuItem icon={<Download size={14} />} onSelect={() => void exportChat("json")}>
              {t("chat.exportJson")}
            </MenuItem>
            <MenuItem
              danger
              icon={<Trash2 size={14} />}
              onSelect={() =>
                confirm({
                  title: t("chat.removeTitle"),
                  text: t("chat.removeText", { title: chat.title }),
                  action: t("remove"),
                  run: () => void removeChat(chat.id),
                })
              }
            >
              {t("remove")}
            </MenuItem>
          </>
        )}
      </Menu>
      <IconButton
        label={t("chat.new")}
        keys="Ctrl+N"
        icon={<MessageSquarePlus size={16} />}
        onClick={newChat}
      />
    </header>
  );
}

/** From the bottom, in pixels: nearer than this, the reader is at the end. */
const nearEnd = 60;

/** Turns that are shown at first, and how many more when the reader comes to the top: hundreds would
 * take the window's time for nothing. */
const turnsAtOnce = 20;

function Turns() {
  const chat = useApp((app) => app.chat);
  const writing = useApp((app) => app.writing);
  const turns = shownTurns(chat, writing);
  const finished = turns.filter(({ id }) => id !== writing?.turnId);
  const [shown, setShown] = useState(turnsAtOnce);
  const list = useRef<HTMLElement>(null);
  const follows = useRef(true);
  const belowTop = useRef<number | null>(null);

  // Earlier turns come in above the view, which stays where it is.
  // biome-ignore lint/correctness/useExhaustiveDependencies: the height is another when more are shown
  useLayoutEffect(() => {
    const node = list.current;
    if (node !== null && belowTop.current !== null)
      node.scrollTop = node.scrollHeight - belowTop.current;
    belowTop.current = null;
  }, [shown]);
  // The view follows the text only where the reader is at its end.
  useLayoutEffect(() => {
    const node = list.current;
    if (node !== null && follows.current) node.scrollTop = node.scrollHeight;
  });
  const question = writing?.runId;
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new question, or another chat, is looked at from its end
  useEffect(() => {
    follows.current = true;
    setShown(turnsAtOnce);
    const node = list.current;
    if (node !== null) node.scrollTop = node.scrollHeight;
  }, [question, chat?.id]);

  return (
    <ScrollRegion
      className={styles.turns}
      ref={list}
      label={t("chat.turns")}
      onScroll={({ currentTarget: { scrollTop, scrollHeight, clientHeight } }) => {
        follows.current = scrollHeight - scrollTop - clientHeight < nearEnd;
        if (scrollTop >= nearEnd || shown >= finished.length) return;
        belowTop.current = scrollHeight - scrollTop;
        setShown(shown + turnsAtOnce);
      }}
    >
      {finished.slice(-shown).map((turn) => (
        <TurnView key={turn.id} turn={turn} />
      ))}
      {writing !== null && <WritingView writing={writing} />}
      {finished.length === 0 && writing === null && <Beginning />}
    </ScrollRegion>
  );
}

/** Before the first question: what reading takes, or what to ask. */
function Beginning() {
  const hasDocument = useApp((app) => app.document !== null);
  if (!hasDocument) return null;
  return (
    <div className={styles.beginning}>
      <PreflightCard />
      <Suggestions />
    </div>
  );
}
