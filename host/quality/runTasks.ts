/** Runs tasks: each document is read once, densely, and each question is put to a fork of it in every
 * mode. */
import { createHash } from "node:crypto";
import { z } from "zod";
import { ScholiaError } from "../../contract/errors.ts";
import type { TaskName, TaskScore } from "../../contract/quality.ts";
import type { RunSink } from "../channel.ts";
import type { Engine } from "../engine/engine.ts";
import { randomNumbers } from "../tokens/madeUpText.ts";
import { layOutPrompt, type Piece } from "../tokens/prompt.ts";
import { tokenizeSegment } from "../tokens/tokenize.ts";
import { type FileOf, keep, readingOf, readKept } from "./kept.ts";
import type { ReadingMode } from "./readingModes.ts";
import { stopIfAsked } from "./stopIfAsked.ts";
import { makeTask, scoreOf, type TaskQuestion, type TaskSample } from "./tasks.ts";

export interface TaskPlan {
  names: readonly TaskName[];
  /** Documents of each task. */
  samples: number;
  /** That document, question and answer may take together. */
  contextTokens: number;
  essay: string;
  seed: number;
  /** Where the answers about each document are kept, so that a run that was stopped goes on from there. */
  keepIn: FileOf;
}

/** The first document of every task, then the second: a run that is stopped has as many of each. */
export async function runTasks(
  engine: Engine,
  modes: readonly ReadingMode[],
  plan: TaskPlan,
  sink: RunSink,
): Promise<TaskScore[]> {
  const scores: TaskScore[] = [];
  for (let sample = 0; sample < plan.samples; sample++)
    for (const name of plan.names)
      scores.push(...(await answersAbout(engine, modes, plan, name, sample, sink)));
  return scores;
}

/** What does not depend on what the mode is called. */
const answersSchema = z
  .array(
    z.strictObject({
      question: z.number(),
      score: z.number(),
      text: z.string(),
      bytesPerToken: z.number(),
      denseBytesPerToken: z.number(),
    }),
  )
  .min(1);
type Answers = z.infer<typeof answersSchema>;

/** Another number when tasks are made or asked otherwise: what was kept of them is no longer theirs. */
const tasksVersion = 1;

async function answersAbout(
  engine: Engine,
  modes: readonly ReadingMode[],
  plan: TaskPlan,
  name: TaskName,
  sample: number,
  sink: RunSink,
): Promise<TaskScore[]> {
  const seed = plan.seed * 1_000_003 + sample * 7919 + hashOf(name);
  const essay = createHash("sha256").update(plan.essay).digest("hex");
  const paths = modes.map((mode) =>
    plan.keepIn("task", tasksVersion, name, seed, plan.contextTokens, essay, readingOf(mode)),
  );
  const kept = await Promise.all(paths.map((path) => readKept(path, answersSchema)));
  const missing = modes.filter((_mode, index) => kept[index] === null);
  if (missing.length > 0) {
    const task = await fittedTask(engine, name, plan, seed, sink.signal);
    const asked = await askTask(engine, missing, { title: `${name} ${sample + 1}`, task }, sink);
    for (const [index, path] of paths.entries()) {
      if (kept[index] !== null) continue;
      kept[index] = asked.shift()!;
      await keep(path, kept[index]);
    }
  }
  return modes.flatMap((mode, index) =>
    kept[index]!.map((answer) => ({ task: name, sample, mode: mode.name, ...answer })),
  );
}

const hashOf = (name: string): number =>
  [...name].reduce((hash, sign) => (Math.imul(hash, 31) + sign.codePointAt(0)!) >>> 0, 7);

/** The largest document of the task that leaves room for question and answer. */
async function fittedTask(
  engine: Engine,
  name: TaskName,
  { contextTokens, essay }: TaskPlan,
  seed: number,
  signal: AbortSignal,
): Promise<TaskSample> {
  const make = (size: number) => makeTask(name, { size, essay, random: randomNumbers(seed) });
  const fits = async (size: number) => {
    stopIfAsked(signal);
    const task = tryTo(() => make(size));
    return task !== null && (await tokensOf(engine, task)) <= contextTokens;
  };
  let least = leastSize;
  if (!(await fits(least)))
    throw new ScholiaError(
      "invalid_argument",
      `The task ${name} does not fit ${contextTokens} tokens, or its text is too short.`,
    );
  let most = least * 2;
  while (await fits(most)) [least, most] = [most, most * 2];
  while (most - least > Math.max(1, least / 100)) {
    const half = Math.floor((least + most) / 2);
    if (await fits(half)) least = half;
    else most = half;
  }
  return make(least);
}

const leastSize = 16;

/** @returns null where the essay is too short for the size */
function tryTo(make: () => TaskSample): TaskSample | null {
  try {
    return make();
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

async function tokensOf(engine: Engine, { document, questions }: TaskSample): Promise<number> {
  const prompts = questions.map((question) => ({
    question,
    ...promptOf(engine, document, question),
  }));
  const asked = await Promise.all(
    prompts.map(async ({ question, conversation }) => {
      const opening = await engine.tokenize(question.opening, false);
      return (await count(engine, conversation)) + opening.length + question.answerTokens;
    }),
  );
  return (await count(engine, prompts[0]!.document)) + Math.max(...asked);
}

/** Tokens of a segment, whose places are not asked for. */
async function count(engine: Engine, pieces: Piece[]): Promise<number> {
  const tokens = await Promise.all(
    pieces.map(({ text, part }) => engine.tokenize(text, part === "frame")),
  );
  return tokens.reduce((sum, { length }) => sum + length, 0);
}

const promptOf = (engine: Engine, text: string, { question }: TaskQuestion) =>
  layOutPrompt(
    engine.model,
    { id: "task", text, pages: [{ number: 1, start: 0, end: text.length }] },
    [],
    question,
  );

/** @returns of each mode */
async function askTask(
  engine: Engine,
  modes: readonly ReadingMode[],
  { title, task }: { title: string; task: TaskSample },
  sink: RunSink,
): Promise<Answers[]> {
  const { document } = promptOf(engine, task.document, task.questions[0]!);
  const { tokens } = await tokenizeSegment(engine, document);
  const read = await engine.createSequence();
  const answers: Answers[] = [];
  try {
    await engine.prefill(read, tokens, { wantLogits: false, signal: sink.signal });
    for (const mode of modes) {
      await engine.setProfile(mode.profile);
      const own: Answers = [];
      for (const [index, question] of task.questions.entries()) {
        const answer = await answerTo(engine, read, task.document, question, mode, sink);
        own.push({ question: index, score: scoreOf(question, answer.text), ...answer });
      }
      answers.push(own);
    }
  } finally {
    await engine.release(read);
  }
  const said = modes.map(({ name }, index) => {
    const own = answers[index]!;
    return `${name} ${(own.reduce((sum, { score }) => sum + score, 0) / own.length).toFixed(2)}`;
  });
  sink.notice(`${title}, ${tokens.length} tokens: ${said.join(", ")}`);
  return answers;
}

async function answerTo(
  engine: Engine,
  read: number,
  document: string,
  question: TaskQuestion,
  { mode, budgetTokens }: ReadingMode,
  { signal }: RunSink,
): Promise<Omit<Answers[number], "question" | "score">> {
  const fork = await engine.fork(read);
  try {
    const { conversation } = promptOf(engine, document, question);
    const { tokens } = await tokenizeSegment(engine, conversation);
    await engine.prefill(fork, tokens, { signal });
    for (const token of await engine.tokenize(question.opening, false))
      await engine.decode(fork, token, { mode, budgetTokens });
    const report = await engine.generate(fork, {
      mode,
      budgetTokens,
      maxTokens: question.answerTokens,
      temperature: 0,
      signal,
    });
    const steps = Math.max(1, report.steps);
    return {
      text: report.text,
      bytesPerToken: Math.round((report.kvBytes + report.digestBytes) / steps),
      denseBytesPerToken: Math.round(report.denseBytes / steps),
    };
  } finally {
    await engine.release(fork);
  }
}
