import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { taskNames } from "../../../contract/quality.ts";
import {
  meanInterval,
  pairedInterval,
  ratioInterval,
  shareInterval,
  stratifiedInterval,
} from "../../../host/quality/intervals.ts";
import { makeTask, scoreOf, type TaskQuestion } from "../../../host/quality/tasks.ts";
import { madeUpText, randomNumbers } from "../../../host/tokens/madeUpText.ts";

/** As many different words as a list of common words wants. */
const essay = Array.from(
  { length: 400 },
  (_, at) =>
    `Word${String.fromCharCode(97 + (at % 26))}${String.fromCharCode(97 + Math.floor(at / 26))} ${madeUpText(9, at)}`,
).join("\n");
const make = (name: (typeof taskNames)[number], size = 200, seed = 1) =>
  makeTask(name, { size, essay, random: randomNumbers(seed) });

describe("a task", () => {
  test.each(taskNames)("%s is the same for the same seed, and holds its answers", (name) => {
    const size = name === "common_words" ? 60 : 200;
    const { document, questions } = make(name, size);
    expect(make(name, size)).toEqual({ document, questions });
    expect(make(name, size, 2).document).not.toBe(document);
    expect(questions.length).toBeGreaterThan(0);
    for (const question of questions) {
      for (const answer of question.answers)
        expect(document.toLowerCase()).toContain(answer.toLowerCase());
      expect(scoreOf(question, question.answers.join(", "))).toBe(1);
      expect(scoreOf(question, "I do not know.")).toBe(0);
      // The opening gives nothing away.
      expect(scoreOf({ ...question, wants: "all" }, question.opening)).toBe(0);
    }
  });

  test("a larger size gives a longer document with the same number of answers", () => {
    for (const name of taskNames) {
      if (name === "common_words") continue;
      const small = make(name, 60);
      const large = make(name, 300);
      expect(large.document.length, name).toBeGreaterThan(2 * small.document.length);
      expect(large.questions.length, name).toBe(small.questions.length);
    }
  });

  test("the wanted words are the most frequent ones", () => {
    for (const [name, size] of [
      ["common_words", 60],
      ["frequent_words", 2000],
    ] as const) {
      const { document, questions } = make(name, size);
      const counts = new Map<string, number>();
      for (const word of document.match(/[a-z]+/g) ?? [])
        counts.set(word, (counts.get(word) ?? 0) + 1);
      const wanted = questions[0]!.answers;
      const least = Math.min(...wanted.map((word) => counts.get(word)!));
      for (const [word, count] of counts)
        if (!wanted.includes(word)) expect(count, word).toBeLessThan(least);
    }
  });

  test("a chain of variables leads to the value from every one of them", () => {
    const { document, questions } = make("variables");
    const [{ answers, question }] = questions as [TaskQuestion];
    const value = /value (\d+)/.exec(question)![1]!;
    for (const name of answers) {
      let at = name;
      for (let hops = 0; !/^\d+$/.test(at); hops++) {
        expect(hops).toBeLessThan(6);
        at = new RegExp(`VAR ${at} = (?:VAR )?(\\w+)\\.`).exec(document)![1]!;
      }
      expect(at).toBe(value);
    }
  });

  test("a part of the answers is a part of the score, where all are wanted", () => {
    const question: TaskQuestion = {
      question: "?",
      opening: "",
      answers: ["Ab", "cd"],
      wants: "all",
      answerTokens: 1,
    };
    expect(scoreOf(question, "only AB")).toBe(0.5);
    expect(scoreOf({ ...question, wants: "any" }, "only AB")).toBe(1);
  });

  test("says when the text is too short for it", () => {
    expect(() => makeTask("facts", { size: 5, essay: "One.", random: randomNumbers(1) })).toThrow(
      RangeError,
    );
  });
});

describe("intervals", () => {
  test("hold the value, and are points where nothing varies", () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0.1, max: 9, noNaN: true }), { minLength: 1 }),
        (values) => {
          const { value, low, high } = pairedInterval(
            values.map((value) => [value]),
            1,
          );
          expect(low).toBeLessThanOrEqual(value + 1e-9);
          expect(high).toBeGreaterThanOrEqual(value - 1e-9);
        },
      ),
      { numRuns: 20 },
    );
    const same = pairedInterval([[0.25], [0.25], [0.25]], 1);
    expect(same).toEqual({ value: 0.25, low: 0.25, high: 0.25 });
  });

  test("a reading that is always half as far off has a ratio of a half, exactly", () => {
    const theirs = [1, 2].map((text) =>
      Array.from({ length: 200 }, (_, at) => text + Math.sin(at) ** 2),
    );
    const ours = theirs.map((text) => text.map((kl) => kl / 2));
    const { value, low, high } = ratioInterval(ours, theirs, 1);
    for (const number of [value, low, high]) expect(number).toBeCloseTo(0.5, 12);
  });

  test("each task counts alike in their mean, however many questions it has", () => {
    const { value, low, high } = stratifiedInterval(
      [
        [
          [1, 1],
          [1, 1, 1, 1],
        ],
        [[0]],
      ],
      1,
    );
    expect([value, low, high]).toEqual([0.5, 0.5, 0.5]);
    const varied = stratifiedInterval([[[-1], [0], [0], [0]], [[0.25]]], 1);
    expect(varied.value).toBe(0);
    expect(varied.low).toBeLessThan(-0.1);
    expect(varied.high).toBe(0.125);
  });

  test("a share's interval is what the books say, and no point where all hit", () => {
    const { value, low, high } = shareInterval(8, 10);
    expect(value).toBe(0.8);
    expect(low).toBeCloseTo(0.49, 2);
    expect(high).toBeCloseTo(0.943, 3);
    expect(shareInterval(20, 20).low).toBeCloseTo(0.839, 3);
    expect(shareInterval(20, 20).high).toBeCloseTo(1, 12);
  });

  test("a mean's interval holds it, and shrinks with more positions", () => {
    const random = randomNumbers(6);
    const texts = (positions: number) => [
      Array.from({ length: positions }, () => random()),
      Array.from({ length: positions / 2 }, () => random()),
    ];
    const few = meanInterval(texts(256), 1);
    const many = meanInterval(texts(8192), 1);
    for (const { value, low, high } of [few, many]) {
      expect(low).toBeLessThan(value);
      expect(high).toBeGreaterThan(value);
      expect(value).toBeCloseTo(0.5, 1);
    }
    expect(many.high - many.low).toBeLessThan((few.high - few.low) / 3);
  });

  test("chance alone leaves one inside", () => {
    const random = randomNumbers(5);
    const noise = () => [1, 2, 3].map(() => Array.from({ length: 640 }, () => random() ** 4));
    const { low, high } = ratioInterval(noise(), noise(), 1);
    expect(low).toBeLessThan(1);
    expect(high).toBeGreaterThan(1);
  });
});
