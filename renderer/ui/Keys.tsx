import styles from "./ui.module.css";

/** Keys as they stand on the keyboard.
 * @param keys e.g. "Ctrl+Shift+V" */
export function Keys({ keys }: { keys: string }) {
  const parts = keys.split("+").map((key) => (key === "" ? "+" : key));
  return (
    <span className={styles.keys}>
      {parts.map((key) => (
        <kbd key={key}>{names[key] ?? key}</kbd>
      ))}
    </span>
  );
}

const names: Record<string, string> = {
  ArrowUp: "↑",
  ArrowDown: "↓",
  ArrowLeft: "←",
  ArrowRight: "→",
  Escape: "Esc",
};
