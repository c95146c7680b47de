import { Check, ChevronLeft, ChevronRight, Copy, Pencil, RefreshCw, Scale } from "lucide-react";
import { memo, useMemo, useState } from "react";
import type { Mode } from "../../../contract/answer.ts";
import { usualBudget } from "../../../contract/budget.ts";
import type { Turn } from "../../../contract/chats.ts";
import { formatCount } from "../../format.ts";
import { useApp, useAppStore } from "../../store/app.ts";
import { counterpartOf, siblingsOf } from "../../store/branches.ts";
import { t } from "../../strings/index.ts";
import { Button, IconButton } from "../../ui/Button.tsx";
import { ErrorNote } from "../../ui/ErrorNote.tsx";
import { Menu, MenuItem } from "../../ui/Menu.tsx";
import { Remedies } from "../../ui/Remedies.tsx";
import { Certificate } from "./Certificate.tsx";
import {
  CitationMark,
  CitationMarks,
  type CitedTurn,
  CitedTurnContext,
  howFound,
  type NumberedCitation,
  numberCitations,
  PageName,
} from "./Citations.tsx";
import styles from "./chat.module.css";
import { Markdown } from "./Markdown.tsx";
import { QuestionEditor } from "./QuestionEditor.tsx";
import { clearMarks, markSentences } from "./sentenceMarks.ts";

/** A question and its finished answer. */
export const TurnView = memo(function TurnView({ turn }: { turn: Turn }) {
  const [isEdited, setEdited] = useState(false);
  const ask = useApp((app) => app.ask);
  return (
    <article className={styles.turn} aria-label={turn.question}>
      {isEdited ? (
        <QuestionEditor
          question={turn.question}
          onCancel={() => setEdited(false)}
          onAsk={(question) => {
            setEdited(false);
            void ask(question, { parentId: turn.parentId });
          }}
        />
      ) : (
        <Question turn={turn} onEdit={() => setEdited(true)} />
      )}
      <AnswerText turn={turn} />
      {turn.state === "stopped" && <p className={styles.notice}>{t("turn.stopped")}</p>}
      {turn.state === "interrupted" && <p className={styles.notice}>{t("turn.interrupted")}</p>}
      {turn.error !== null && turn.error.code !== "cancelled" && (
        <ErrorNote error={turn.error}>
          <Remedies error={turn.error} />
        </ErrorNote>
      )}
      {turn.answer !== null && <AnswerFoot turn={turn} />}
      <TurnActions turn={turn} />
    </article>
  );
});

function Question({ turn, onEdit }: { turn: Turn; onEdit(): void }) {
  const isWriting = useApp((app) => app.writing !== null);
  return (
    <header className={styles.question}>
      <h3>{turn.question}</h3>
      <div className={styles.questionActions}>
        <Branches turn={turn} />
        <IconButton
          label={t("turn.edit")}
          icon={<Pencil size={14} />}
          onClick={onEdit}
          disabled={isWriting}
        />
      </div>
    </header>
  );
}

const noTurns: readonly Turn[] = [];

/** Earlier and later versions of a question and its answer. */
function Branches({ turn }: { turn: Turn }) {
  const tree = useApp((app) => app.chat?.tree ?? noTurns);
  const show = useApp((app) => app.showTurn);
  const siblings = siblingsOf(tree, turn);
  if (siblings.length < 2) return null;
  const at = siblings.findIndex(({ id }) => id === turn.id);
  const step = (by: number) => void show(siblings[at + by]!.id);
  return (
    <div className={styles.branches}>
      <IconButton
        label={t("turn.earlier")}
        icon={<ChevronLeft size={14} />}
        disabled={at <= 0}
        onClick={() => step(-1)}
      />
      <span>{t("turn.branchOf", { at: at + 1, of: siblings.length })}</span>
      <IconButton
        label={t("turn.later")}
        icon={<ChevronRight size={14} />}
        disabled={at >= siblings.length - 1}
        onClick={() => step(1)}
      />
    </div>
  );
}

function AnswerText({ turn }: { turn: Turn }) {
  const focusOn = useApp((app) => app.focusOn);
  const cited = useMemo(
    (): CitedTurn => ({
      turnId: turn.id,
      pages: turn.pages,
      citations: numberCitations(turn.answer?.citations ?? []),
    }),
    [turn],
  );
  const text = useMemo(
    () =>
      turn.sentences.length > 0 ? markSentences(turn.text, turn.sentences) : clearMarks(turn.text),
    [turn],
  );
  const point = (target: EventTarget) => {
    const span = target instanceof Element ? target.closest<HTMLElement>("[data-sentence]") : null;
    const sentence = span === null ? null : Number(span.dataset.sentence);
    focusOn(turn.id, sentence);
  };
  return (
    <CitedTurnContext.Provider value={cited}>
      <div
        className={styles.answer}
        onPointerOver={({ target }) => point(target)}
        onPointerLeave={() => focusOn(turn.id)}
      >
        <Markdown text={text} Marks={CitationMarks} />
      </div>
      {cited.citations.length > 0 && <Passages cited={cited} />}
    </CitedTurnContext.Provider>
  );
}

/** All passages that the answer rests on, as a list. */
function Passages({ cited }: { cited: CitedTurn }) {
  const missing = cited.citations.filter(({ citation }) => !citation.verified).length;
  return (
    <details className={styles.passages}>
      <summary>
        {t("citation.passages", { count: cited.citations.length })}
        {missing > 0 && (
          <span className={styles.cardMissing}>
            {" "}
            · {t("citation.missingCount", { count: missing })}
          </span>
        )}
      </summary>
      <ol>
        {cited.citations.map((numbered) => (
          <Passage key={numbered.number} numbered={numbered} turn={cited} />
        ))}
      </ol>
    </details>
  );
}

function Passage({ numbered, turn }: { numbered: NumberedCitation; turn: CitedTurn }) {
  const { citation } = numbered;
  return (
    <li>
      <CitationMark numbered={numbered} turn={turn} />
      <div>
        <p className={styles.cardQuote}>{citation.quote}</p>
        <p className={citation.verified ? styles.cardSource : styles.cardMissing}>
          {citation.page !== null && <PageName page={citation.page} />}
          {howFound(citation)}
        </p>
      </div>
    </li>
  );
}

function AnswerFoot({ turn }: { turn: Turn }) {
  const showLens = useApp((app) => app.showLens);
  if (turn.answer === null) return null;
  return (
    <Certificate
      answer={turn.answer}
      onTiming={() => {
        showLens("timing");
      }}
    />
  );
}

function TurnActions({ turn }: { turn: Turn }) {
  const store = useAppStore();
  const isWriting = useApp((app) => app.writing !== null);
  const other = useApp((app) => counterpartOf(app.chat?.tree ?? [], turn));
  const chosen = useApp((app) => app.settings.budgetTokens);
  const budget = chosen ?? turn.answer?.coverage.budgetTokens ?? usualBudget.tokens;
  const { ask, compare } = store.getState();
  const again = (options: {
    mode?: Mode;
    budgetTokens?: number;
    temperature?: number;
    seed?: number;
  }) => void ask(turn.question, { parentId: turn.parentId, ...options });
  const otherMode: Mode = turn.mode === "dense" ? "ab-sparse" : "dense";
  return (
    <footer className={styles.turnActions}>
      {other !== null ? (
        <Button
          kind="quiet"
          icon={<Scale size={14} />}
          onClick={() => compare(...inOrder(turn, other))}
        >
          {t("turn.compareBoth")}
        </Button>
      ) : (
        <Button
          kind="quiet"
          icon={<Scale size={14} />}
          disabled={isWriting}
          onClick={() => again({ mode: otherMode })}
        >
          {t(`turn.compare.${otherMode}`)}
        </Button>
      )}
      <CopyButton turn={turn} />
      <Menu
        trigger={
          <Button kind="quiet" icon={<RefreshCw size={14} />} disabled={isWriting}>
            {t("turn.again")}
          </Button>
        }
      >
        <MenuItem onSelect={() => again({ mode: turn.mode })}>{t("turn.againSame")}</MenuItem>
        <MenuItem
          onSelect={() => again({ mode: turn.mode, temperature: 0.7, seed: newSeed() })}
          detail={t("turn.againVariedDetail")}
        >
          {t("turn.againVaried")}
        </MenuItem>
        <MenuItem onSelect={() => again({ mode: "ab-sparse", budgetTokens: budget * 2 })}>
          {t("turn.againBudget", { budget: formatCount(budget * 2) })}
        </MenuItem>
        <MenuItem onSelect={() => again({ mode: "dense" })}>{t("turn.againDense")}</MenuItem>
      </Menu>
    </footer>
  );
}

/** Sparse on the left, dense on the right. */
const inOrder = (turn: Turn, other: Turn): [string, string] =>
  turn.mode === "dense" ? [other.id, turn.id] : [turn.id, other.id];

const newSeed = (): number => crypto.getRandomValues(new Uint32Array(1))[0]!;

const copiedForMs = 1500;

function CopyButton({ turn }: { turn: Turn }) {
  const [isCopied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(textOf(turn));
    setCopied(true);
    setTimeout(() => setCopied(false), copiedForMs);
  };
  return (
    <Button
      kind="quiet"
      icon={isCopied ? <Check size={14} /> : <Copy size={14} />}
      onClick={() => void copy()}
    >
      {isCopied ? t("copied") : t("turn.copy")}
    </Button>
  );
}

/** The answer with the passages that it rests on. */
function textOf({ text, answer }: Turn): string {
  const passages = numberCitations(answer?.citations ?? []).map(
    ({ number, citation }) =>
      `[${number}] ${citation.page === null ? "" : `${t("citation.page", { page: citation.page })} `}“${citation.quote}” (${howFound(citation)})`,
  );
  return [text.trim(), ...passages].join("\n");
}
