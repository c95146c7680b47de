import styles from "./ui.module.css";

interface MeterProps {
  /** For screen readers. */
  label: string;
  value: number;
  /** Null: the end is not known yet. */
  max: number | null;
  /** What the numbers say, for screen readers. */
  text: string;
  isQuiet?: boolean;
}

/** How far something has got. */
export function Meter({ label, value, max, text, isQuiet = false }: MeterProps) {
  const share = max === null || max === 0 ? 0 : Math.min(1, value / max);
  return (
    <div
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      {...(max === null ? {} : { "aria-valuemax": max, "aria-valuenow": Math.min(value, max) })}
      aria-valuetext={text}
      className={[styles.meter, isQuiet ? styles.meterQuiet : ""].join(" ")}
    >
      <div style={{ transform: `scaleX(${share})` }} />
    </div>
  );
}
