import type { Turn } from "../../../contract/chats.ts";
import { formatCount } from "../../format.ts";
import { useApp } from "../../store/app.ts";
import { counterpartOf } from "../../store/branches.ts";
import { t } from "../../strings/index.ts";
import { Button } from "../../ui/Button.tsx";
import { ScrollRegion } from "../../ui/ScrollRegion.tsx";
import { AnswerNumbers } from "../chat/Certificate.tsx";
import { modeName } from "../chat/modeName.ts";
import lens from "../lens/lens.module.css";
import styles from "./compare.module.css";
import { firstDifference } from "./divergence.ts";

/** Two answers to one question, side by side. */
export function CompareLens() {
  const left = useApp((app) => turnOf(app.chat?.tree, app.compared?.left));
  const right = useApp((app) => turnOf(app.chat?.tree, app.compared?.right));
  if (left === null || right === null) return <NothingCompared />;
  const at = firstDifference(left.text, right.text);
  return (
    <ScrollRegion className={styles.compare} label={t("lens.tabs.compare")}>
      <p className={styles.verdict} role="status">
        {at === left.text.length && at === right.text.length
          ? t("compare.same")
          : t("compare.differ", { count: at, letters: formatCount(at) })}
      </p>
      <div className={styles.columns}>
        <Column turn={left} at={at} />
        <Column turn={right} at={at} />
      </div>
    </ScrollRegion>
  );
}

const turnOf = (tree: readonly Turn[] | undefined, id: string | undefined): Turn | null =>
  tree?.find((turn) => turn.id === id) ?? null;

function Column({ turn, at }: { turn: Turn; at: number }) {
  const { text, answer, mode } = turn;
  const title = modeName(mode, answer?.coverage.budgetTokens ?? turn.budgetTokens);
  return (
    <section className={styles.column} aria-label={title}>
      <h3>{title}</h3>
      <p className={styles.text}>
        {text.slice(0, at)}
        {at < text.length && <mark>{text.slice(at)}</mark>}
      </p>
      {answer !== null && (
        <div className={styles.numbers}>
          <AnswerNumbers answer={answer} />
        </div>
      )}
    </section>
  );
}

/** No pair yet: makes one of the answer that is looked at. */
function NothingCompared() {
  const turn = useApp((app) => turnOf(app.chat?.tree, app.focus?.turnId));
  const other = useApp((app) => (turn === null ? null : counterpartOf(app.chat?.tree ?? [], turn)));
  const compare = useApp((app) => app.compare);
  const ask = useApp((app) => app.ask);
  const isWriting = useApp((app) => app.writing !== null);
  if (turn === null || turn.answer === null)
    return <p className={lens.message}>{t("compare.none")}</p>;
  const otherMode = turn.mode === "dense" ? "ab-sparse" : "dense";
  return (
    <div className={lens.message}>
      <p>{t("compare.what")}</p>
      {other === null ? (
        <Button
          disabled={isWriting}
          onClick={() => void ask(turn.question, { parentId: turn.parentId, mode: otherMode })}
        >
          {t(`turn.compare.${otherMode}`)}
        </Button>
      ) : (
        <Button onClick={() => compare(turn.id, other.id)}>{t("turn.compareBoth")}</Button>
      )}
    </div>
  );
}
