import { Info, TriangleAlert, X } from "lucide-react";
import { useEffect } from "react";
import { useApp } from "../store/app.ts";
import type { App, Message } from "../store/state.ts";
import { t } from "../strings/index.ts";
import { IconButton } from "./Button.tsx";
import styles from "./ui.module.css";

/** Errors stay until they are closed; the rest goes by itself. */
const shownForMs = 6000;

export function Messages() {
  const messages = useApp((app) => app.messages);
  return (
    <section className={styles.messages} aria-label={t("messages")} aria-live="polite">
      {messages.map((message) => (
        <MessageNote key={message.id} message={message} />
      ))}
    </section>
  );
}

const dismissOf = (app: App) => app.dismiss;

function MessageNote({ message: { id, text, error } }: { message: Message }) {
  const dismiss = useApp(dismissOf);
  useEffect(() => {
    if (error !== null) return;
    const timer = setTimeout(() => dismiss(id), shownForMs);
    return () => clearTimeout(timer);
  }, [id, error, dismiss]);
  const Icon = error === null ? Info : TriangleAlert;
  return (
    <div className={[styles.message, error === null ? "" : styles.messageError].join(" ")}>
      <Icon size={16} aria-hidden />
      <p>
        {text !== null && <strong>{text} </strong>}
        {error?.message}
      </p>
      <IconButton label={t("close")} icon={<X size={14} />} onClick={() => dismiss(id)} />
    </div>
  );
}
