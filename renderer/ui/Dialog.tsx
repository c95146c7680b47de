import { X } from "lucide-react";
import { type ReactNode, useId, useLayoutEffect, useRef } from "react";
import { t } from "../strings/index.ts";
import { IconButton } from "./Button.tsx";
import styles from "./ui.module.css";

interface DialogProps {
  title: string;
  onClose(): void;
  children: ReactNode;
  /** `wide` fills most of the window. */
  size?: "small" | "wide";
  /** Without a title bar; the title is for screen readers only. */
  isBare?: boolean;
}

/** A modal dialog: the element of the platform, which keeps the focus inside and closes on Escape. The focus
 * goes to the control inside that is marked `data-first`, else to the dialog as a whole. */
export function Dialog({ title, onClose, children, size = "small", isBare = false }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const titleId = useId();
  // Before the next key is pressed: it may be meant for the dialog.
  useLayoutEffect(() => {
    const before = document.activeElement;
    const shown = dialog.current;
    // A card or tip that is still open outside would take the first Escape that is meant for the dialog.
    document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
    shown?.showModal();
    // Left to itself the focus goes to the button that closes, whose tip then takes the first Escape.
    (shown?.querySelector<HTMLElement>("[data-first]") ?? shown)?.focus();
    return () => {
      // Shown once more it would throw where it is open already.
      shown?.close();
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape does what a click beside the dialog does
    <dialog
      ref={dialog}
      tabIndex={-1}
      className={[styles.dialog, styles[size], isBare ? styles.bare : ""].join(" ")}
      aria-labelledby={titleId}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onClick={(event) => {
        if (event.target === dialog.current) onClose();
      }}
    >
      <header className={isBare ? "visuallyHidden" : styles.dialogHeader}>
        <h2 id={titleId}>{title}</h2>
        {!isBare && <IconButton label={t("close")} icon={<X size={16} />} onClick={onClose} />}
      </header>
      {children}
    </dialog>
  );
}
