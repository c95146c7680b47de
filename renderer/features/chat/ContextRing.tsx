import { Popover } from "radix-ui";
import { formatCount, formatPercent } from "../../format.ts";
import { useApp } from "../../store/app.ts";
import { wholeRead } from "../../store/library.ts";
import { modelInUse } from "../../store/models.ts";
import { t } from "../../strings/index.ts";
import styles from "./chat.module.css";

interface Share {
  name: string;
  tokens: number;
  colour: string;
}

const radius = 8;
const circumference = 2 * Math.PI * radius;

/** What of the model's context is taken, and by what. */
export function ContextRing() {
  const use = useContextUse();
  if (use === null) return null;
  const { shares, total } = use;
  const used = shares.reduce((sum, share) => sum + share.tokens, 0);
  return (
    <Popover.Root>
      <Popover.Trigger className={styles.ring} data-full={used / total >= 0.9}>
        <svg width={20} height={20} viewBox="0 0 20 20" aria-hidden="true">
          <circle cx={10} cy={10} r={radius} className={styles.ringGround} />
          <Arcs shares={shares} total={total} />
        </svg>
        <span>
          <span className="visuallyHidden">{t("context.title")}: </span>
          {formatCount(used)} / {formatCount(total)}
        </span>
      </Popover.Trigger>
      <Popover.Portal>
        <Popover.Content
          className={styles.card}
          sideOffset={6}
          collisionPadding={12}
          aria-label={t("context.title")}
        >
          <h3 className={styles.cardTitle}>{t("context.title")}</h3>
          <dl className={styles.numbers}>
            {shares.map(({ name, tokens, colour }) => (
              <div key={name}>
                <dt>
                  <i style={{ background: colour }} className={styles.swatch} />
                  {name}
                </dt>
                <dd>{formatCount(tokens)}</dd>
              </div>
            ))}
            <div>
              <dt>{t("context.free")}</dt>
              <dd>
                {formatCount(Math.max(0, total - used))} (
                {formatPercent(Math.max(0, total - used) / total)})
              </dd>
            </div>
          </dl>
        </Popover.Content>
      </Popover.Portal>
    </Popover.Root>
  );
}

function Arcs({ shares, total }: { shares: readonly Share[]; total: number }) {
  let before = 0;
  return shares.map(({ name, tokens, colour }) => {
    const length = (Math.min(tokens, total) / total) * circumference;
    const arc = (
      <circle
        key={name}
        cx={10}
        cy={10}
        r={radius}
        className={styles.ringArc}
        style={{ stroke: colour }}
        strokeDasharray={`${length} ${circumference}`}
        strokeDashoffset={-before}
      />
    );
    before += length;
    return arc;
  });
}

/** The last question's context; before the first, what the document alone takes. */
function useContextUse(): { shares: Share[]; total: number } | null {
  const context = useApp((app) => app.context);
  const preflight = useApp((app) => app.preflight?.value ?? null);
  const entry = useApp((app) => app.documents?.find(({ id }) => id === app.document?.id) ?? null);
  const model = useApp((app) => modelInUse(app.models, app.settings.model));
  const share = (key: keyof typeof colours, tokens: number): Share => ({
    name: t(`context.${key}`),
    tokens,
    colour: colours[key],
  });
  if (context !== null)
    return {
      total: context.contextTokens,
      shares: [
        share("document", context.documentTokens + context.aroundTokens),
        share("history", context.historyTokens + context.questionTokens),
        share("answer", context.answerTokens),
      ],
    };
  if (preflight !== null)
    return {
      total: preflight.contextTokens,
      shares: [
        share("document", preflight.documentTokens + preflight.aroundTokens),
        share("answer", preflight.answerTokens),
      ],
    };
  const read = entry === null ? null : wholeRead(entry);
  if (read === null || model === null) return null;
  return { total: model.contextTokens, shares: [share("document", read.tokens)] };
}

const colours = {
  document: "var(--ink-soft)",
  history: "#2c8a7f",
  answer: "var(--mark-strong)",
} as const;
