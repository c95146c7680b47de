import { memo, useEffect, useRef } from "react";
import type { Box } from "../../../contract/answer.ts";
import type { FoundPassage, Page, PageText } from "../../../contract/documents.ts";
import { useApp } from "../../store/app.ts";
import { t } from "../../strings/index.ts";
import styles from "./document.module.css";
import { usePagePicture, usePageText } from "./usePage.ts";

interface PageSheetProps {
  page: Page;
  /** As shown, in CSS pixels. */
  width: number;
  height: number;
}

/** A page as it looks, with its text over it for selecting and for screen readers. */
export const PageSheet = memo(function PageSheet({ page, width, height }: PageSheetProps) {
  const picture = usePagePicture(page.number, width);
  const text = usePageText(page.number);
  const scale = width / (page.width ?? width);
  const label = t("document.pageLabel", { page: page.label });
  return (
    <section className={styles.sheet} style={{ width, height }} aria-label={label}>
      {picture.value !== null && <PagePicture png={picture.value.image} />}
      {picture.error !== null && <p className={styles.sheetError}>{picture.error.message}</p>}
      <Highlights page={page.number} scale={scale} />
      {text.value !== null && <TextLayer text={text.value} scale={scale} />}
    </section>
  );
});

/** Drawn, not shown as an image: of each image the browser keeps the file and its pixels long after the page has
 * left the view, hundreds of MB in a manual of thousands of pages. */
function PagePicture({ png }: { png: Uint8Array }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    let isWanted = true;
    const file = new Blob([png as Uint8Array<ArrayBuffer>], { type: "image/png" });
    void createImageBitmap(file).then((bitmap) => {
      if (isWanted && canvas.current !== null) drawPicture(canvas.current, bitmap);
      bitmap.close();
    });
    return () => {
      isWanted = false;
    };
  }, [png]);
  useEffect(() => {
    const node = canvas.current;
    // Its pixels go now, and not when memory is looked through for what nobody holds.
    return () => node?.setAttribute("width", "0");
  }, []);
  return <canvas ref={canvas} width={0} height={0} />;
}

function drawPicture(canvas: HTMLCanvasElement, bitmap: ImageBitmap): void {
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d", { alpha: false })?.drawImage(bitmap, 0, 0);
}

/** Words of the page where they stand, unseen. */
const TextLayer = memo(function TextLayer({ text, scale }: { text: PageText; scale: number }) {
  const ruler = newRuler();
  return (
    <div className={styles.textLayer} data-page={text.number}>
      {text.lines.map((line) => {
        const words = text.text.slice(line.start - text.start, line.end - text.start);
        const size = line.height * scale;
        return (
          <span
            key={line.start}
            data-start={line.start}
            style={{
              left: line.left * scale,
              top: line.top * scale,
              fontSize: size,
              // Stretched to where the words really end, so that a selection covers them.
              transform: `scaleX(${stretch(ruler, words, size, line.width * scale)})`,
            }}
          >
            {words}
          </span>
        );
      })}
    </div>
  );
});

type Ruler = CanvasRenderingContext2D | null;

/** For the lines of one page: Chromium keeps the shapes of all that a canvas which is never shown has
 * measured (150 MB after some hundred pages), and gives them up with the canvas. */
const newRuler = (): Ruler => document.createElement("canvas").getContext("2d");

function stretch(ruler: Ruler, words: string, size: number, width: number): number {
  if (ruler === null || words.trim() === "" || width <= 0) return 1;
  ruler.font = `${size}px serif`;
  const natural = ruler.measureText(words).width;
  return natural > 0 ? width / natural : 1;
}

function Highlights({ page, scale }: { page: number; scale: number }) {
  const mark = useApp((app) => app.mark);
  const found = useApp((app) => app.find?.result?.passages ?? noPassages);
  const at = useApp((app) => app.find?.at ?? -1);
  const marked = mark?.boxes.filter((box) => box.page === page) ?? [];
  return (
    <>
      {found.flatMap(({ start, boxes }, index) =>
        boxes
          .filter((box) => box.page === page)
          .map((box) => (
            <Highlight
              key={`${start}:${box.left}:${box.top}`}
              box={box}
              scale={scale}
              kind={index === at ? "foundNow" : "found"}
            />
          )),
      )}
      {marked.map((box) => (
        <Highlight key={`${box.left}:${box.top}`} box={box} scale={scale} kind="cited" />
      ))}
    </>
  );
}

const noPassages: readonly FoundPassage[] = [];

function Highlight({
  box: { left, top, width, height },
  scale,
  kind,
}: {
  box: Box;
  scale: number;
  kind: "found" | "foundNow" | "cited";
}) {
  return (
    <div
      className={[styles.highlight, styles[kind]].join(" ")}
      style={{
        left: left * scale - 1,
        top: top * scale - 1,
        width: width * scale + 2,
        height: height * scale + 2,
      }}
    />
  );
}
