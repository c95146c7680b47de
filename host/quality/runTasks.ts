/** Runs tasks: each document is read once, densely, and each question is put to a fork of it in every
 * mode. */
import { ScholiaError } from "../../contract/errors.ts";
import type { TaskName, TaskScore } from "../../contract/quality.ts";
import type { RunSink } from "../channel.ts";
import type { Engine } from "../engine/engine.ts";
import { randomNumbers } from "../tokens/madeUpText.ts";
import { layOutPrompt, type Piece } from "../tokens/prompt.ts";
import { tokenizeSegment } from "../tokens/tokenize.ts";
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
}

export async function runTasks(
  engine: Engine,
  modes: readonly ReadingMode[],
  plan: TaskPlan,
  sink: RunSink,
): Promise<TaskScore[]> {
  const scores: TaskScore[] = [];
  for (const name of plan.names)
    for (let sample = 0; sample < plan.samples; sample++) {
      const seed = plan.seed * 1_000_003 + sample * 7919 + hashOf(name);
      const task = await fittedTask(engine, name, plan, seed, sink.signal);
      scores.push(...(await runTask(engine, modes, { name, sample, task }, sink)));
    }
  return scores;
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

async function runTask(
  engine: Engine,
  modes: readonly ReadingMode[],
  { name, sample, task }: { name: TaskName; sample: number; task: TaskSample },
  sink: RunSink,
): Promise<TaskScore[]> {
  const { document } = promptOf(engine, task.document, task.questions[0]!);
  const { tokens } = await tokenizeSegment(engine, document);
  const read = await engine.createSequence();
  const scores: TaskScore[] = [];
  try {
    await engine.prefill(read, tokens, { wantLogits: false, signal: sink.signal });
    for (const mode of modes) {
      await engine.setProfile(mode.profile);
      for (const [index, question] of task.questions.entries()) {
        const answer = await answerTo(engine, read, task.document, question, mode, sink);
        const score = scoreOf(question, answer.text);
        scores.push({ task: name, sample, question: index, mode: mode.name, score, ...answer });
      }
    }
  } finally {
    await engine.release(read);
  }
  const said = modes.map((mode) => {
    const own = scores.filter((score) => score.mode === mode.name);
    return `${mode.name} ${(own.reduce((sum, { score }) => sum + score, 0) / own.length).toFixed(2)}`;
  });
  sink.notice(`${name} ${sample + 1}, ${tokens.length} tokens: ${said.join(", ")}`);
  return scores;
}

async function answerTo(
  engine: Engine,
  read: number,
  document: string,
  question: TaskQuestion,
  { mode, budgetTokens }: ReadingMode,
  { signal }: RunSink,
): Promise<Pick<TaskScore, "text" | "bytesPerToken" | "denseBytesPerToken">> {
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
