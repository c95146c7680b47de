// The main thread's work while an answer streams, per frame and at worst, and what moves on the screen.
import { realDocumentPath } from "../../fixtures/realDocuments.ts";
import { addDocument, ask, median, quantile, round, type Served } from "./serve.ts";

/** What is open beside the chat, the page and the read map: one lens at a time. */
const lenses = { heads: "1", memory: "2", timing: "3" } as const;
const question = "Explain all that these pages say, step by step and at length.";

export async function measureStreaming(served: Served, repetitions: number) {
  const { page } = served;
  await addDocument(page, realDocumentPath("bzip2.pdf"));
  await page.getByLabel("Pages", { exact: true }).fill("4-9");
  await page.getByRole("button", { name: "Count these pages" }).click();
  await page.getByRole("button", { name: /^Read [\d,]+ tokens$/ }).click();
  await page.getByText(/· pages 4–9 read/).waitFor();
  const rows = [];
  for (const [lens, key] of Object.entries(lenses)) {
    await page.keyboard.press(`Control+Shift+${key}`);
    if (lens === "heads") await pinHead(served);
    for (let i = 0; i < repetitions; i++) rows.push({ lens, ...(await measureAnswer(served)) });
  }
  return rows;
}

/** With its live metric, and one head's strip, history and curve. */
async function pinHead({ page }: Served): Promise<void> {
  await page.getByLabel("What the colours show").selectOption("bytesRead");
  await page.locator("[role=application]").focus();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Enter");
}

/** After the end of an answer, what belongs to it has found its place. */
const settlesMs = 1000;

/** In a chat of its own: the context holds a few long answers. */
async function measureAnswer(served: Served) {
  const { page } = served;
  await page.keyboard.press("Control+n");
  await markWriting(served);
  const events = await traced(served, () => ask(page, question));
  await page.waitForTimeout(settlesMs);
  const { shifts, writing, written } = await page.evaluate(
    () => (globalThis as unknown as { marked: Marked }).marked,
  );
  const layoutShift = shifts
    .filter(({ at }) => at >= writing && at <= written + settlesMs)
    .reduce((sum, { value }) => sum + value, 0);
  return { ...workIn(events), layoutShift: round(layoutShift) };
}

/** By the page's clock. */
interface Marked {
  writing: number;
  written: number;
  shifts: { at: number; value: number }[];
}

/** Marks where the answer's text begins and ends, in the trace too, and notes all that moves. */
const markWriting = ({ page }: Served): Promise<void> =>
  page.evaluate(() => {
    const marked: Marked = { writing: 0, written: 0, shifts: [] };
    Object.assign(globalThis, { marked });
    const observer = new PerformanceObserver((list) => {
      for (const { startTime, value } of list.getEntries() as (PerformanceEntry & {
        value: number;
      })[])
        marked.shifts.push({ at: startTime, value });
    });
    observer.observe({ entryTypes: ["layout-shift"] });
    const isWriting = () => document.querySelector("[aria-busy=true] [class*=growing]") !== null;
    const changes = new MutationObserver(() => {
      if (isWriting() === marked.writing > 0) return;
      const name = isWriting() ? "writing" : "written";
      marked[name] = performance.mark(name).startTime;
      if (name === "written") changes.disconnect();
    });
    changes.observe(document.body, { subtree: true, childList: true });
  });

interface TraceEvent {
  name: string;
  cat: string;
  pid: number;
  tid: number;
  /** Microseconds. */
  ts: number;
  dur?: number;
  /** Of the processor, without waiting for it. */
  tdur?: number;
}

async function traced({ devtools }: Served, action: () => Promise<unknown>): Promise<TraceEvent[]> {
  const events: TraceEvent[] = [];
  const take = ({ value }: { value: object[] }) => void events.push(...(value as TraceEvent[]));
  devtools.on("Tracing.dataCollected", take);
  await devtools.send("Tracing.start", {
    transferMode: "ReportEvents",
    traceConfig: {
      includedCategories: [
        "devtools.timeline",
        "disabled-by-default-devtools.timeline",
        "devtools.timeline.frame",
        "blink.user_timing",
      ],
    },
  });
  await action();
  const complete = new Promise((resolve) => devtools.once("Tracing.tracingComplete", resolve));
  await devtools.send("Tracing.end");
  await complete;
  devtools.off("Tracing.dataCollected", take);
  return events;
}

/** Tasks of the window's main thread while the text grew, shared out to the frames that they led to: a frame's
 * work ends where it is committed. */
function workIn(events: TraceEvent[]) {
  const mark = (name: string) =>
    events.find((event) => event.name === name && event.cat.includes("blink.user_timing"))!;
  const [begin, end] = [mark("writing"), mark("written")];
  const own = events.filter(
    ({ pid, tid, ts }) => pid === begin.pid && tid === begin.tid && ts >= begin.ts && ts <= end.ts,
  );
  const frames = own.filter(({ name }) => name === "Commit").map(({ ts }) => ts);
  const tasks = own.filter(({ name, dur }) => name === "RunTask" && dur !== undefined);
  const inFrames = (timeOf: (task: TraceEvent) => number) => {
    const work = frames.map(() => 0);
    for (const task of tasks) {
      const frame = frames.findIndex((committed) => committed >= task.ts);
      if (frame >= 0) work[frame]! += timeOf(task) / 1000;
    }
    return { median: round(median(work)), p95: round(quantile(work, 0.95)) };
  };
  const seconds = (end.ts - begin.ts) / 1e6;
  const longest = (timeOf: (task: TraceEvent) => number) =>
    round(Math.max(...tasks.map(timeOf)) / 1000);
  const perSecond = (timeOf: (task: TraceEvent) => number) =>
    round(tasks.reduce((sum, task) => sum + timeOf(task), 0) / 1000 / seconds);
  return {
    seconds: round(seconds),
    frames: frames.length,
    framesPerSecond: round(frames.length / seconds),
    clock: {
      msPerFrame: inFrames(byClock),
      msPerSecond: perSecond(byClock),
      longestTaskMs: longest(byClock),
      tasksOver50Ms: tasks.filter((task) => byClock(task) > 50_000).length,
    },
    processor: {
      msPerFrame: inFrames(byProcessor),
      msPerSecond: perSecond(byProcessor),
      longestTaskMs: longest(byProcessor),
    },
  };
}

const byClock = ({ dur }: TraceEvent): number => dur ?? 0;
/** Without the time in which the thread waited for a core. */
const byProcessor = ({ tdur }: TraceEvent): number => tdur ?? 0;
