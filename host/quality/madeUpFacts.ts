/** Facts about made-up people and places that no text holds, in other words than those the
 * calibration plants. The same for the same seed. */
import { randomNumbers } from "../tokens/madeUpText.ts";

export interface Fact {
  sentence: string;
  question: string;
  /** The sentence up to the value. */
  opening: string;
  /** What an answer must contain. */
  value: string;
}

/** Sentence and question about a name; `#` stands for the value, `@` for the name. */
interface Template {
  sentence: string;
  question: string;
  value: "name" | [least: number, most: number];
}

// All different, so that a small model, too, can tell them apart when it reads everything.
const templates: Template[] = [
  about(
    "The registration number of the ship @ is #.",
    [1000, 9999],
    "What is the registration number of the ship @?",
  ),
  about("The capital of the island of @ is #.", "name", "What is the capital of the island of @?"),
  about(
    "The stone bridge of @ was opened in the year #.",
    [1500, 1999],
    "In which year was the stone bridge of @ opened?",
  ),
  about("Doctor @ was born in the village of #.", "name", "In which village was Doctor @ born?"),
  about(
    "The lighthouse of @ is # metres high.",
    [20, 180],
    "How many metres high is the lighthouse of @?",
  ),
  about(
    "The favourite composer of Queen @ was #.",
    "name",
    "Who was the favourite composer of Queen @?",
  ),
  about("The @ mine employs # miners.", [200, 4000], "How many miners does the @ mine employ?"),
  about("The river @ flows into Lake #.", "name", "Into which lake does the river @ flow?"),
  about(
    "The password of the printer in room @ is #.",
    [10000, 99999],
    "What is the password of the printer in room @?",
  ),
  about("The @ football club is coached by #.", "name", "Who coaches the @ football club?"),
  about("Train @ leaves from platform #.", [11, 99], "From which platform does train @ leave?"),
  about(
    "The language of the @ people is called #.",
    "name",
    "What is the language of the @ people called?",
  ),
  about("The library of @ owns # maps.", [300, 9000], "How many maps does the library of @ own?"),
  about(
    "The @ comet was discovered by the astronomer #.",
    "name",
    "Which astronomer discovered the @ comet?",
  ),
  about(
    "A night in the hotel @ costs # crowns.",
    [40, 900],
    "How many crowns does a night in the hotel @ cost?",
  ),
  about(
    "The horse of General @ was named #.",
    "name",
    "What was the name of the horse of General @?",
  ),
  about(
    "The @ glacier loses # tonnes of ice a day.",
    [100, 9000],
    "How many tonnes of ice does the @ glacier lose a day?",
  ),
  about(
    "The bakery @ is famous for a cake called #.",
    "name",
    "For which cake is the bakery @ famous?",
  ),
  about(
    "The telephone extension of Professor @ is #.",
    [100, 999],
    "What is the telephone extension of Professor @?",
  ),
  about(
    "The treasure of the pirate @ lies buried at Cape #.",
    "name",
    "At which cape does the treasure of the pirate @ lie buried?",
  ),
];

function about(sentence: string, value: Template["value"], question: string): Template {
  return { sentence, question, value };
}

/** @returns facts of different kinds, as far as there are, each about a name of its own */
export function madeUpFacts(count: number, seed: number): Fact[] {
  const random = randomNumbers(seed);
  const used = new Set<string>();
  const newName = () => {
    for (;;) {
      const name = madeUpName(random);
      if (used.has(name)) continue;
      used.add(name);
      return name;
    }
  };
  const newNumber = ([least, most]: [number, number]) =>
    String(least + Math.floor(random() * (most - least + 1)));
  return Array.from({ length: count }, (_, index) => {
    const template = templates[index % templates.length]!;
    const name = newName();
    const value = template.value === "name" ? newName() : newNumber(template.value);
    const fill = (text: string) => text.replace("@", name).replace("#", value);
    const sentence = fill(template.sentence);
    const opening = sentence.slice(0, sentence.lastIndexOf(value)).trimEnd();
    return { sentence, question: fill(template.question), opening, value };
  });
}

const openings = "B D F G H K L M N P R S T V Br Dr Gl Kr St Tr".split(" ");
const vowels = "a e i o u ei au".split(" ");
const middles = "l m n r v nd lm rt sk st".split(" ");
const endings = "a o en is ath orn und eth ik".split(" ");

/** @param random in [0, 1) */
export function madeUpName(random: () => number): string {
  const from = (list: string[]) => list[Math.floor(random() * list.length)]!;
  return `${from(openings)}${from(vowels)}${from(middles)}${from(endings)}`;
}

/** Whether the answer names the value, as a word of its own and whatever its case. */
export function names(answer: string, value: string): boolean {
  const words = answer.toLowerCase().split(/[^\p{L}\p{N}]+/u);
  // "1,234" says 1234.
  const joined = answer.toLowerCase().replace(/(?<=\d),(?=\d{3})/g, "");
  const joinedWords = joined.split(/[^\p{L}\p{N}]+/u);
  return [...words, ...joinedWords].includes(value.toLowerCase());
}
