import {
  BookOpen,
  FolderOpen,
  HardDrive,
  MoreHorizontal,
  Pencil,
  Plus,
  Trash2,
} from "lucide-react";
import type { DocumentEntry } from "../../../contract/documents.ts";
import { formatAgo, formatBytes, formatCount } from "../../format.ts";
import { useApp, useAppStore } from "../../store/app.ts";
import { queueItemOf, wholeRead } from "../../store/library.ts";
import { pagesInRange } from "../../store/pages.ts";
import { t } from "../../strings/index.ts";
import { IconButton } from "../../ui/Button.tsx";
import { Menu, MenuItem, MenuLine } from "../../ui/Menu.tsx";
import { QueueControls, QueueLine } from "../prefill/QueueLine.tsx";
import styles from "./library.module.css";

/** The documents, and how far each is read. */
export function LibraryPane() {
  const documents = useApp((app) => app.documents);
  const adding = useApp((app) => app.adding);
  const choose = useApp((app) => app.chooseFiles);
  return (
    <nav className={styles.pane} aria-label={t("library.title")}>
      <header className={styles.header}>
        <h2>{t("library.title")}</h2>
        <IconButton
          label={t("library.add")}
          keys="Ctrl+O"
          icon={<Plus size={17} />}
          onClick={() => void choose()}
        />
      </header>
      <ul className={styles.list}>
        {documents?.map((entry) => (
          <Entry key={entry.id} entry={entry} />
        ))}
        {documents?.length === 0 && adding === 0 && (
          <li className={styles.empty}>{t("library.empty")}</li>
        )}
        {adding > 0 && (
          <li className={styles.empty} role="status">
            {t("library.adding", { count: adding })}
          </li>
        )}
      </ul>
      <DiskLine />
    </nav>
  );
}

function Entry({ entry }: { entry: DocumentEntry }) {
  const isOpen = useApp((app) => app.document?.id === entry.id);
  const item = useApp((app) => queueItemOf(app, entry.id));
  const open = useApp((app) => app.openDocument);
  const isActive = item !== null && item.state !== "done" && item.state !== "failed";
  return (
    <li className={styles.entry} data-open={isOpen}>
      <div className={styles.entryRow}>
        <button
          type="button"
          className={styles.entryButton}
          aria-current={isOpen ? "true" : undefined}
          title={entry.path}
          onClick={() => void open(entry.id)}
        >
          <span className={styles.entryTitle}>{entry.title}</span>
          <span className={styles.entryDetail}>{stateLine(entry)}</span>
        </button>
        <EntryMenu entry={entry} />
      </div>
      {isActive && (
        <div className={styles.reading}>
          <QueueLine item={item} isShort />
          <QueueControls item={item} />
        </div>
      )}
      {isOpen && <ChatList />}
    </li>
  );
}

/** E.g. "36 pages · read · 228 MB". */
function stateLine(entry: DocumentEntry): string {
  if (entry.file === "missing") return t("library.missing");
  if (entry.file === "changed") return t("library.changed");
  const read = wholeRead(entry);
  const part = entry.reads.find(({ complete }) => !complete);
  const parts = [
    entry.pages === null ? formatBytes(entry.bytes) : t("library.pages", { count: entry.pages }),
  ];
  const isAll =
    read !== null &&
    entry.pages !== null &&
    pagesInRange(read.pages, entry.pages).length === entry.pages;
  if (read !== null)
    parts.push(
      t(isAll ? "library.read" : "library.pagesRead", {
        pages: read.pages.replaceAll("-", "–"),
        bytes: formatBytes(read.bytes),
      }),
    );
  else if (part !== undefined)
    parts.push(
      t("library.partRead", {
        percent: Math.floor((100 * part.storedTokens) / Math.max(1, part.tokens)),
      }),
    );
  else parts.push(t("library.unread"));
  return parts.join(" · ");
}

function EntryMenu({ entry }: { entry: DocumentEntry }) {
  const store = useAppStore();
  const { openDocument, newChat, countPreflight } = store.getState();
  const { confirm, removeDocument, removeRead, locateDocument, askForName } = store.getState();
  const bytes = entry.reads.reduce((sum, read) => sum + read.bytes, 0);
  return (
    <Menu
      align="end"
      trigger={
        <IconButton
          className={styles.entryMenu ?? ""}
          label={t("library.menu", { title: entry.title })}
          icon={<MoreHorizontal size={16} />}
        />
      }
    >
      <MenuItem
        icon={<Pencil size={14} />}
        onSelect={() => askForName({ kind: "document", id: entry.id, name: entry.title })}
      >
        {t("rename")}
      </MenuItem>
      <MenuItem
        icon={<BookOpen size={14} />}
        onSelect={async () => {
          await openDocument(entry.id);
          newChat();
          void countPreflight();
        }}
      >
        {t("library.readPages")}
      </MenuItem>
      {entry.file !== "present" && (
        <MenuItem icon={<FolderOpen size={14} />} onSelect={() => void locateDocument(entry.id)}>
          {t("remedy.locate")}
        </MenuItem>
      )}
      {entry.reads.length > 0 && (
        <MenuItem
          icon={<HardDrive size={14} />}
          detail={formatBytes(bytes)}
          onSelect={() =>
            confirm({
              title: t("library.forgetTitle"),
              text: t("library.forgetText", { title: entry.title, bytes: formatBytes(bytes) }),
              action: t("library.forget"),
              run: () => {
                for (const { key } of entry.reads) void removeRead(key);
              },
            })
          }
        >
          {t("library.forget")}
        </MenuItem>
      )}
      <MenuLine />
      <MenuItem
        danger
        icon={<Trash2 size={14} />}
        onSelect={() =>
          confirm({
            title: t("library.removeTitle"),
            text: t("library.removeText", { title: entry.title }),
            action: t("remove"),
            run: () => void removeDocument(entry.id),
          })
        }
      >
        {t("library.remove")}
      </MenuItem>
    </Menu>
  );
}

/** Chats of the open document. */
function ChatList() {
  const chats = useApp((app) => app.chats);
  const openId = useApp((app) => app.chat?.id ?? null);
  const open = useApp((app) => app.openChat);
  const showPane = useApp((app) => app.showPane);
  if (chats.length === 0) return null;
  return (
    <ul className={styles.chats} aria-label={t("chat.ofDocument")}>
      {chats.map(({ id, title, lastUse }) => (
        <li key={id}>
          <button
            type="button"
            aria-current={id === openId ? "true" : undefined}
            onClick={() => {
              showPane("chat");
              void open(id);
            }}
          >
            <span>{title}</span>
            <small>{formatAgo(lastUse)}</small>
          </button>
        </li>
      ))}
    </ul>
  );
}

/** What the reads take on the disk. */
function DiskLine() {
  const store = useApp((app) => app.readStore);
  const openSettings = useApp((app) => app.openSettings);
  if (store === null || store.reads.length === 0) return null;
  const text =
    store.limitBytes === null
      ? t("library.disk", { bytes: formatBytes(store.bytes) })
      : t("library.diskOf", {
          bytes: formatBytes(store.bytes),
          limit: formatBytes(store.limitBytes),
        });
  return (
    <button type="button" className={styles.disk} onClick={() => openSettings("storage")}>
      <HardDrive size={14} aria-hidden />
      {text}
      <span className="visuallyHidden">{formatCount(store.reads.length)}</span>
    </button>
  );
}

/** Covers the window while files are held over it. */
export function DropTarget() {
  return (
    <div className={styles.drop}>
      <p>{t("library.drop")}</p>
    </div>
  );
}
