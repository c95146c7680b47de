import { type ReactNode, useId, useState } from "react";
import styles from "./settings.module.css";

/** A setting with its name and what it does. */
export function Field({
  label,
  hint,
  children,
}: {
  label: string;
  hint?: string;
  children: ReactNode;
}) {
  return (
    <div className={styles.field}>
      <div>
        <span className={styles.label}>{label}</span>
        {hint !== undefined && <p className={styles.hint}>{hint}</p>}
      </div>
      <div className={styles.control}>{children}</div>
    </div>
  );
}

interface NumberFieldProps {
  label: string;
  hint: string;
  /** Null: none was chosen. */
  value: number | null;
  least: number;
  most: number;
  /** Whole numbers only, unless given. */
  step?: number;
  onChange(value: number): void;
  /** The field was emptied; where it may be. */
  onEmpty?(): void;
}

/** A number that is taken when the field is left, if it is one. */
export function NumberField({
  label,
  hint,
  value,
  least,
  most,
  step = 1,
  onChange,
  onEmpty,
}: NumberFieldProps) {
  const [typed, setTyped] = useState<string | null>(null);
  const id = useId();
  const take = () => {
    if (typed?.trim() === "") onEmpty?.();
    const number = Number(typed);
    const isTaken = typed !== null && typed.trim() !== "" && Number.isFinite(number);
    if (isTaken) {
      const stepped = Math.round(number / step) * step;
      onChange(Math.min(most, Math.max(least, Number(stepped.toFixed(6)))));
    }
    setTyped(null);
  };
  return (
    <div className={styles.field}>
      <div>
        <label htmlFor={id} className={styles.label}>
          {label}
        </label>
        <p className={styles.hint} id={`${id}-hint`}>
          {hint}
        </p>
      </div>
      <div className={styles.control}>
        <input
          id={id}
          className={styles.number}
          inputMode="decimal"
          aria-describedby={`${id}-hint`}
          value={typed ?? `${value ?? ""}`}
          onChange={(event) => setTyped(event.target.value)}
          onBlur={take}
          onKeyDown={(event) => {
            if (event.key === "Enter") take();
          }}
        />
      </div>
    </div>
  );
}
