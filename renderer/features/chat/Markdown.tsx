import { type ComponentProps, memo, useMemo } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import rehypeSanitize, { defaultSchema } from "rehype-sanitize";
import remarkGfm from "remark-gfm";
import remarkMath from "remark-math";
import { useApp } from "../../store/app.ts";
import { t } from "../../strings/index.ts";
import { ScrollRegion } from "../../ui/ScrollRegion.tsx";
import { splitBlocks } from "./blocks.ts";
import styles from "./markdown.module.css";
import type { Plugin } from "./plugin.ts";
import { clearMarks, rehypeSentences } from "./sentenceMarks.ts";
import { useSetters } from "./setters.ts";

/** An answer is untrusted: what is not in the schema is dropped. Mathematics and highlighting are set
 * from text after that, by code of ours. */
const schema: typeof defaultSchema = {
  ...defaultSchema,
  attributes: {
    ...defaultSchema.attributes,
    // A picture would be fetched from somewhere: only its words stay.
    img: ["alt"],
    code: [["className", /^language-./, "math-inline", "math-display"]],
  },
};

const remarkPlugins = [remarkGfm, remarkMath];
const sanitize: Plugin = [rehypeSanitize, schema];

const isWebAddress = (url: string): boolean => /^https?:\/\//i.test(url);

function Link({ href, children }: ComponentProps<"a">) {
  const open = useApp((app) => app.openLink);
  if (href === undefined || !isWebAddress(href)) return <span>{children}</span>;
  return (
    <a
      href={href}
      rel="noopener noreferrer nofollow"
      title={href}
      onClick={(event) => {
        event.preventDefault();
        open(href);
      }}
    >
      {children}
    </a>
  );
}

const components: Components = {
  a: Link,
  img: ({ alt }) => <span>{t("markdown.picture", { alt: alt ?? "" })}</span>,
  table: ({ children }) => (
    <ScrollRegion className={styles.tableFrame} label={t("markdown.table")}>
      <table>{children}</table>
    </ScrollRegion>
  ),
  input: (props) => <input {...props} disabled aria-label={t("markdown.task")} />,
};

interface MarkdownProps {
  /** With marks of sentences, or without. */
  text: string;
  /** Shows the numbers of a sentence's citations. */
  Marks?: (props: { index: number }) => React.ReactNode;
}

/** A finished text. */
export const Markdown = memo(function Markdown({ text, Marks }: MarkdownProps) {
  const setters = useSetters(text);
  const all = useMemo(
    (): Components =>
      Marks === undefined
        ? components
        : ({
            ...components,
            "cite-marks": ({ index }: { index?: number }) => <Marks index={Number(index)} />,
          } as Components),
    [Marks],
  );
  return (
    <div className={styles.markdown}>
      <ReactMarkdown
        remarkPlugins={remarkPlugins}
        rehypePlugins={[sanitize, ...setters, rehypeSentences]}
        components={all}
        urlTransform={(url) => (isWebAddress(url) ? url : "")}
      >
        {text}
      </ReactMarkdown>
    </div>
  );
});

/** A text that grows: only its last part is parsed again. */
export function GrowingMarkdown({ text }: { text: string }) {
  const blocks = splitBlocks(clearMarks(text));
  return (
    <div className={styles.growing}>
      {blocks.map((block, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: parts only ever come at the end
        <Markdown key={index} text={block} />
      ))}
    </div>
  );
}
