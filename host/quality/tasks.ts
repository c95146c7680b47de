/** Tasks in the manner of RULER (arXiv 2404.06654, section 3), in words of our own: a document in which
 * something is to be found, followed or counted, and questions about it. The same for the same seed.
 * The answer's opening is given to the model, as RULER does. */
import type { TaskName } from "../../contract/quality.ts";
import { plant } from "../tokens/madeUpText.ts";
import { impliedFacts } from "./impliedFacts.ts";
import { madeUpFacts, madeUpName } from "./madeUpFacts.ts";
import { type Draw, draw } from "./randomValues.ts";

export interface TaskSample {
  document: string;
  questions: TaskQuestion[];
}

export interface TaskQuestion {
  question: string;
  /** The answer's first words. */
  opening: string;
  answers: string[];
  /** `all`: the score is the share of the answers that are named. `any`: one is enough. */
  wants: "all" | "any";
  /** Room for what follows the opening. */
  answerTokens: number;
}

/** What a task is made from. */
export interface TaskSource {
  /** Sentences, lines or words of the document; a larger size gives a longer one. */
  size: number;
  random: () => number;
  /** A real text, the hay for some tasks. */
  essay: string;
}

type Task = (source: TaskSource & { draw: Draw }) => TaskSample;

const tasks = {
  /** One number in repeated sentences. */
  single_1: ({ draw, ...source }) => haystack(draw, noise(source.size), [numbered(draw)]),
  /** One number in a real text. */
  single_2: ({ draw, ...source }) => haystack(draw, sentences(source), [numbered(draw)]),
  /** One long serial in a real text. */
  single_3: ({ draw, ...source }) => haystack(draw, sentences(source), [serial(draw)]),
  /** One of four numbers in a real text. */
  multikey_1: ({ draw, ...source }) =>
    haystack(
      draw,
      sentences(source),
      repeat(4, () => numbered(draw)),
    ),
  /** One number among nothing but numbers. */
  multikey_2: ({ draw, size }) => needlesOnly(draw, size, () => numbered(draw)),
  /** One serial among nothing but serials, each of a serial. */
  multikey_3: ({ draw, size }) => needlesOnly(draw, size, () => serial(draw, draw.serial())),
  /** All four numbers of one name. */
  multivalue({ draw, ...source }) {
    const key = draw.name();
    const needles = repeat(4, () => numbered(draw, key));
    return askedTogether(draw, source, needles, `What are all the code numbers of ${key}`, key);
  },
  /** The numbers of four names in one question. */
  multiquery({ draw, ...source }) {
    const needles = repeat(4, () => numbered(draw));
    const keys = needles.map(({ key }) => key).join(", ");
    return askedTogether(draw, source, needles, `What are the code numbers of ${keys}`, keys);
  },
  /** Assignments that hand a value on four times. */
  variables({ draw, size }) {
    const value = draw.number().slice(0, 5);
    const names = repeat(5, () => draw.letters(5));
    const lines = names.map((name, hop) =>
      hop === 0 ? `VAR ${name} = ${value}.` : `VAR ${name} = VAR ${names[hop - 1]}.`,
    );
    return {
      document: hide(draw, noise(size), lines),
      questions: [
        {
          question: `Which five variables have the value ${value}, directly or through others?`,
          opening: `The five variables that have the value ${value} are`,
          answers: names,
          wants: "all",
          answerTokens: 40,
        },
      ],
    };
  },
  /** The ten words that a list holds ten times as often as the others. */
  common_words({ draw, size, essay }) {
    const [often, seldom] = twoKinds(draw, wordsOf(essay), 10, size);
    const list = shuffled(draw, [...times(30, often), ...times(3, seldom)]);
    return {
      document: list.map((word, at) => `${at + 1}. ${word}`).join(" "),
      questions: [
        {
          question: "Which ten words stand in the numbered list most often?",
          opening: "The ten most common words of the list are",
          answers: often,
          wants: "all",
          answerTokens: 80,
        },
      ],
    };
  },
  /** The three most frequent of coded words, whose frequency falls with the square of the rank. */
  frequent_words({ draw, size }) {
    const words = repeat(50, () => draw.letters(6, "abcdefghijklmnopqrstuvwxyz"));
    const weights = words.map((_, rank) => 1 / (rank + 1) ** 2);
    const total = weights.reduce((sum, weight) => sum + weight);
    const text = words.flatMap((word, rank) =>
      times(Math.max(1, Math.round((size * weights[rank]!) / total)), [word]),
    );
    return {
      document: shuffled(draw, text).join(" "),
      questions: [
        {
          question: "Which three coded words does the document hold most often?",
          opening: "The three most frequent coded words are",
          answers: words.slice(0, 3),
          wants: "all",
          answerTokens: 40,
        },
      ],
    };
  },
  /** Facts in a real text, asked for in words that they use. */
  facts({ random, draw, ...source }) {
    const facts = madeUpFacts(8, Math.floor(random() * 2 ** 31));
    return {
      document: plant(
        sentences(source).join(""),
        facts.map(({ sentence }) => sentence),
      ).text,
      questions: facts.map(({ question, opening, value }) => ({
        question,
        opening,
        answers: [value],
        wants: "any",
        answerTokens: 16,
      })),
    };
  },
  /** Facts in a real text, asked for in words that they do not use (the idea of NoLiMa,
   * arXiv 2502.05167). */
  implied_facts({ random, draw, ...source }) {
    const chosen = draw
      .sample(impliedFacts, 8)
      .map((fact) => ({ ...fact, name: madeUpName(random) }));
    return {
      document: plant(
        sentences(source).join(""),
        chosen.map(({ sentence, name }) => sentence.replace("@", name)),
      ).text,
      questions: chosen.map(({ question, name }) => ({
        question,
        opening: "The name of that person is",
        answers: [name],
        wants: "any",
        answerTokens: 16,
      })),
    };
  },
} satisfies Record<TaskName, Task>;

/** @throws RangeError when the essay is too short for the size */
export function makeTask(name: TaskName, source: TaskSource): TaskSample {
  const task: Task = tasks[name];
  return task({ ...source, draw: draw(source.random) });
}

/** Share of the answers that the text names (RULER's string match), in [0, 1]. */
export function scoreOf({ answers, wants }: TaskQuestion, text: string): number {
  const said = text.toLowerCase();
  const named = answers.filter((answer) => said.includes(answer.toLowerCase())).length;
  return wants === "any" ? Number(named > 0) : named / answers.length;
}

interface Needle {
  key: string;
  value: string;
  sentence: string;
  question: TaskQuestion;
}

const numbered = (draw: Draw, key = draw.name()): Needle =>
  needle(key, draw.number(), "code number", 16);

const serial = (draw: Draw, key = draw.name()): Needle =>
  needle(key, draw.serial(), "serial code", 64);

function needle(key: string, value: string, kind: string, answerTokens: number): Needle {
  return {
    key,
    value,
    sentence: `One ${kind} of ${key} is ${value}.`,
    question: {
      question: `What is the ${kind} of ${key} that the document names?`,
      opening: `The ${kind} of ${key} that the document names is`,
      answers: [value],
      wants: "all",
      answerTokens,
    },
  };
}

/** Needles in hay; each is asked for. */
const haystack = (draw: Draw, hay: string[], needles: Needle[]): TaskSample => ({
  document: hide(
    draw,
    hay,
    needles.map(({ sentence }) => sentence),
  ),
  questions: needles.map(({ question }) => question),
});

/** Needles in hay that one question asks for. */
function askedTogether(
  draw: Draw,
  source: Pick<TaskSource, "essay" | "size">,
  needles: Needle[],
  asks: string,
  keys: string,
): TaskSample {
  return {
    ...haystack(draw, sentences(source), needles),
    questions: [
      {
        question: `${asks} that the document names?`,
        opening: `The code numbers of ${keys} that the document names are`,
        answers: needles.map(({ value }) => value),
        wants: "all",
        answerTokens: 80,
      },
    ],
  };
}

const needlesAsked = 8;

function needlesOnly(draw: Draw, size: number, make: () => Needle): TaskSample {
  const needles = repeat(size, make);
  return {
    document: needles.map(({ sentence }) => sentence).join("\n"),
    questions: draw.sample(needles, needlesAsked).map(({ question }) => question),
  };
}

/** Puts each sentence at a random place of its own, in their order. */
function hide(draw: Draw, hay: string[], hidden: string[]): string {
  const gaps = draw.sample([...hay.keys()], hidden.length).sort((a, b) => a - b);
  const parts = hay.flatMap((sentence, at) => {
    const index = gaps.indexOf(at);
    return index === -1 ? [sentence] : [`${hidden[index]} `, sentence];
  });
  return parts.join("");
}

const plain = [
  "The kettle stands on the stove. ",
  "The road runs along the river. ",
  "The baker opens at seven. ",
  "The wind turns in the evening. ",
  "Nothing else is new. ",
];

const noise = (size: number): string[] => repeat(size, (at) => plain[at % plain.length]!);

function sentences({ essay, size }: Pick<TaskSource, "essay" | "size">): string[] {
  const all = essay.match(/[^.!?\n]*(?:[.!?]+\s*|\n+|$)/g)?.filter((part) => part !== "") ?? [];
  if (all.length < size) throw new RangeError(`the essay has ${all.length} sentences, not ${size}`);
  return all.slice(0, size);
}

/** Different words of the essay, of four letters or more. */
const wordsOf = (essay: string): string[] => [
  ...new Set(essay.toLowerCase().match(/\b[a-z]{4,12}\b/g) ?? []),
];

/** @returns `first` and `second` words, all different */
function twoKinds(
  draw: Draw,
  words: string[],
  first: number,
  second: number,
): [string[], string[]] {
  if (words.length < first + second)
    throw new RangeError(`the essay has ${words.length} different words, not ${first + second}`);
  const chosen = draw.sample(words, first + second);
  return [chosen.slice(0, first), chosen.slice(first)];
}

const repeat = <Value>(count: number, make: (at: number) => Value): Value[] =>
  Array.from({ length: count }, (_, at) => make(at));

const times = <Value>(count: number, list: Value[]): Value[] => repeat(count, () => list).flat();

function shuffled<Value>(draw: Draw, list: Value[]): Value[] {
  const mixed = [...list];
  for (let at = mixed.length - 1; at > 0; at--) {
    const other = draw.index(at + 1);
    [mixed[at], mixed[other]] = [mixed[other]!, mixed[at]!];
  }
  return mixed;
}
