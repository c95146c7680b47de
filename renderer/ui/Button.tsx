import type { ButtonHTMLAttributes, ReactNode, Ref } from "react";
import { Tip } from "./Tip.tsx";
import styles from "./ui.module.css";

interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  /** `primary`: the one thing to do here. */
  kind?: "plain" | "primary" | "quiet" | "danger";
  icon?: ReactNode;
  ref?: Ref<HTMLButtonElement>;
}

export function Button({ kind = "plain", icon, children, className, ...rest }: ButtonProps) {
  return (
    <button
      type="button"
      className={[styles.button, styles[kind], className].filter(Boolean).join(" ")}
      {...rest}
    >
      {icon}
      {children}
    </button>
  );
}

interface IconButtonProps extends Omit<ButtonHTMLAttributes<HTMLButtonElement>, "children"> {
  /** Its name for screen readers, and its tip. */
  label: string;
  /** As in "Ctrl+K". */
  keys?: string | null;
  icon: ReactNode;
  ref?: Ref<HTMLButtonElement>;
}

export function IconButton({ label, keys, icon, className, ...rest }: IconButtonProps) {
  return (
    <Tip text={label} keys={keys ?? null}>
      <button
        type="button"
        aria-label={label}
        className={[styles.iconButton, className].filter(Boolean).join(" ")}
        {...rest}
      >
        {icon}
      </button>
    </Tip>
  );
}
