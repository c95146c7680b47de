import { ChevronDown, ChevronUp, X } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { formatCount } from "../../format.ts";
import { useApp, useAppStore } from "../../store/app.ts";
import { t } from "../../strings/index.ts";
import { IconButton } from "../../ui/Button.tsx";
import styles from "./document.module.css";

/** Typing pauses this long before the document is searched. */
const pauseMs = 180;

export function FindBar() {
  const store = useAppStore();
  const find = useApp((app) => app.find);
  const { search, stepFound, closeFind } = store.getState();
  const [query, setQuery] = useState(find?.query ?? "");
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  useEffect(() => {
    if (query === store.getState().find?.query) return;
    const timer = setTimeout(() => void search(query), pauseMs);
    return () => clearTimeout(timer);
  }, [query, search, store]);
  if (find === null) return null;
  const total = find.result?.total ?? 0;
  const hasFound = (find.result?.passages.length ?? 0) > 0;
  return (
    <search className={styles.find}>
      <input
        ref={field}
        type="text"
        value={query}
        aria-label={t("find.label")}
        placeholder={t("find.label")}
        onChange={(event) => setQuery(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter") {
            event.preventDefault();
            stepFound(event.shiftKey ? -1 : 1);
          } else if (event.key === "Escape") {
            event.stopPropagation();
            closeFind();
          }
        }}
      />
      <span role="status" className={styles.findCount}>
        {find.error !== null
          ? find.error.message
          : find.result === null
            ? ""
            : hasFound
              ? t("find.count", { at: formatCount(find.at + 1), total: formatCount(total) })
              : t("find.none")}
      </span>
      <IconButton
        label={t("find.previous")}
        keys="Shift+F3"
        icon={<ChevronUp size={16} />}
        disabled={!hasFound}
        onClick={() => stepFound(-1)}
      />
      <IconButton
        label={t("find.next")}
        keys="F3"
        icon={<ChevronDown size={16} />}
        disabled={!hasFound}
        onClick={() => stepFound(1)}
      />
      <IconButton
        label={t("find.close")}
        keys="Escape"
        icon={<X size={16} />}
        onClick={closeFind}
      />
    </search>
  );
}
