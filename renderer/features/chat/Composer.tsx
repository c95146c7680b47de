import { ArrowUp, X } from "lucide-react";
import { useEffect, useRef } from "react";
import { useApp, useAppStore } from "../../store/app.ts";
import { queueItemOf } from "../../store/library.ts";
import { t } from "../../strings/index.ts";
import { IconButton } from "../../ui/Button.tsx";
import { ErrorNote } from "../../ui/ErrorNote.tsx";
import { Remedies } from "../../ui/Remedies.tsx";
import { ContextRing } from "./ContextRing.tsx";
import styles from "./chat.module.css";
import { ModeMenu } from "./ModeMenu.tsx";

/** Where a question is typed. */
export function Composer() {
  const store = useAppStore();
  const draft = useApp((app) => app.draft);
  const about = useApp((app) => app.about);
  const askError = useApp((app) => app.askError);
  const isWriting = useApp((app) => app.writing !== null);
  const canAsk = useApp((app) => app.document?.detail != null && app.connection === "ready");
  const isEmpty = draft.trim() === "";

  const ask = () => {
    const { draft: question, about: words, ask: send, setDraft, askAbout } = store.getState();
    if (question.trim() === "" || store.getState().writing !== null) return;
    setDraft("");
    if (words !== null) askAbout(null);
    store.setState({ narrowPane: "chat" });
    void send(words === null ? question.trim() : t("composer.aboutQuestion", { words, question }));
  };

  return (
    <form
      className={styles.composer}
      onSubmit={(event) => {
        event.preventDefault();
        ask();
      }}
    >
      {askError !== null && (
        <ErrorNote error={askError}>
          <Remedies error={askError} />
        </ErrorNote>
      )}
      <ReadingNote />
      <div className={styles.composerBox}>
        {about !== null && (
          <p className={styles.about}>
            <q>{about}</q>
            <IconButton
              label={t("composer.aboutRemove")}
              icon={<X size={14} />}
              onClick={() => store.setState({ about: null })}
            />
          </p>
        )}
        <QuestionField disabled={!canAsk} onAsk={ask} />
        <div className={styles.composerBar}>
          <ModeMenu />
          <ContextRing />
          <button
            type="submit"
            className={styles.send}
            aria-label={t("composer.ask")}
            disabled={!canAsk || isWriting || isEmpty}
          >
            <ArrowUp size={18} />
          </button>
        </div>
      </div>
    </form>
  );
}

function QuestionField({ disabled, onAsk }: { disabled: boolean; onAsk(): void }) {
  const field = useRef<HTMLTextAreaElement>(null);
  const draft = useApp((app) => app.draft);
  const setDraft = useApp((app) => app.setDraft);
  const about = useApp((app) => app.about);
  const addText = useApp((app) => app.addText);
  const enterSends = useApp((app) => app.settings.enterSends);
  useEffect(() => growWith(field.current), []);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the height follows the text
  useEffect(() => fitHeight(field.current), [draft]);
  useEffect(() => {
    if (about !== null) field.current?.focus();
  }, [about]);
  return (
    <textarea
      id="composer"
      ref={field}
      rows={1}
      value={draft}
      disabled={disabled}
      aria-label={t("composer.label")}
      placeholder={t(disabled ? "composer.noDocument" : "composer.placeholder")}
      onChange={(event) => setDraft(event.target.value)}
      onPaste={(event) => {
        const text = event.clipboardData.getData("text/plain");
        if (text.length <= longestPaste) return;
        event.preventDefault();
        void addText(text);
      }}
      onKeyDown={(event) => {
        // While letters are being composed, Enter accepts them.
        if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
        if (!enterSends && !event.ctrlKey && !event.metaKey) return;
        event.preventDefault();
        onAsk();
      }}
    />
  );
}

/** Characters: what is longer is nothing to ask but something to ask about. */
const longestPaste = 6000;

const tallest = 220;

/** As high as its text, up to a limit. */
function fitHeight(field: HTMLTextAreaElement | null): void {
  if (field === null) return;
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight, tallest)}px`;
}

/** Another width breaks the lines elsewhere. */
function growWith(field: HTMLTextAreaElement | null): (() => void) | undefined {
  if (field === null) return undefined;
  let width = 0;
  const observer = new ResizeObserver(([entry]) => {
    const now = entry!.contentRect.width;
    if (now !== width) fitHeight(field);
    width = now;
  });
  observer.observe(field);
  return () => observer.disconnect();
}

/** While the document is being read: which part answers are made from. */
function ReadingNote() {
  const item = useApp((app) => (app.document === null ? null : queueItemOf(app, app.document.id)));
  if (item === null || item.state === "done" || item.state === "failed") return null;
  return (
    <p className={styles.readingNote} role="status">
      {item.pagesRead === null
        ? t("composer.nothingRead")
        : t("composer.readSoFar", { pages: item.pagesRead.replaceAll("-", "–") })}
    </p>
  );
}
