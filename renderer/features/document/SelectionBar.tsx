import { MessageSquareQuote } from "lucide-react";
import { type RefObject, useEffect, useState } from "react";
import { useApp } from "../../store/app.ts";
import { t } from "../../strings/index.ts";
import { Button } from "../../ui/Button.tsx";
import styles from "./document.module.css";

/** Longer passages are cut in the question: they are in the document anyway. */
const wordsAtMost = 2000;

/** Over a selection in the document: asks about it. */
export function SelectionBar({ container }: { container: RefObject<HTMLElement | null> }) {
  const [place, setPlace] = useState<{ left: number; top: number; words: string } | null>(null);
  const askAbout = useApp((app) => app.askAbout);
  useEffect(() => {
    const note = () => setPlace(selectionIn(container.current));
    document.addEventListener("selectionchange", note);
    return () => document.removeEventListener("selectionchange", note);
  }, [container]);
  if (place === null) return null;
  return (
    <div className={styles.selectionBar} style={{ left: place.left, top: place.top }}>
      <Button
        icon={<MessageSquareQuote size={15} />}
        // The press would end the selection before the click.
        onMouseDown={(event) => event.preventDefault()}
        onClick={() => {
          askAbout(place.words.slice(0, wordsAtMost));
          window.getSelection()?.removeAllRanges();
        }}
      >
        {t("document.askAbout")}
      </Button>
    </div>
  );
}

function selectionIn(container: HTMLElement | null) {
  const selection = window.getSelection();
  if (container === null || selection === null || selection.isCollapsed) return null;
  if (!container.contains(selection.anchorNode) || !container.contains(selection.focusNode))
    return null;
  const words = selection.toString().replace(/\s+/g, " ").trim();
  if (words === "") return null;
  const box = selection.getRangeAt(0).getBoundingClientRect();
  return { left: box.left + box.width / 2, top: Math.max(8, box.top - 40), words };
}
