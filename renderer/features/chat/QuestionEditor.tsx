import { useState } from "react";
import { t } from "../../strings/index.ts";
import { Button } from "../../ui/Button.tsx";
import styles from "./chat.module.css";

/** Changes a question that was asked; the old one and its answer are kept as another branch. */
export function QuestionEditor({
  question,
  onCancel,
  onAsk,
}: {
  question: string;
  onCancel(): void;
  onAsk(question: string): void;
}) {
  const [text, setText] = useState(question);
  return (
    <form
      className={styles.editor}
      onSubmit={(event) => {
        event.preventDefault();
        if (text.trim() !== "") onAsk(text.trim());
      }}
      onKeyDown={(event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        onCancel();
      }}
    >
      <textarea
        // biome-ignore lint/a11y/noAutofocus: the person has just asked to edit this
        autoFocus
        aria-label={t("turn.edit")}
        value={text}
        rows={Math.min(10, text.split("\n").length + 1)}
        onChange={(event) => setText(event.target.value)}
      />
      <div>
        <Button kind="primary" type="submit" disabled={text.trim() === ""}>
          {t("composer.ask")}
        </Button>
        <Button kind="quiet" onClick={onCancel}>
          {t("cancel")}
        </Button>
      </div>
    </form>
  );
}
