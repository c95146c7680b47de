/** Facts whose questions share no word with them that matters; `@` stands for a name. What is asked
 * follows from the sentence. */
export const impliedFacts: { sentence: string; question: string }[] = [
  {
    sentence: "From the kitchen window @ looks at the Brandenburg Gate.",
    question: "Who lives in Berlin?",
  },
  {
    sentence: "Every evening @ walks home along the Seine, past the Louvre.",
    question: "Who lives in Paris?",
  },
  { sentence: "Since childhood @ has not touched meat or fish.", question: "Who is a vegetarian?" },
  {
    sentence: "On weekdays @ drills and fills the teeth of the whole town.",
    question: "Who works as a dentist?",
  },
  {
    sentence: "Neither thunder nor the church bells ever reach the ears of @.",
    question: "Who is deaf?",
  },
  {
    sentence: "In a blue uniform @ lands passenger jets at night and in fog.",
    question: "Who works as a pilot?",
  },
  {
    sentence: "Behind the shed of @ forty hives hum all summer.",
    question: "Who keeps bees?",
  },
  {
    sentence: "Last spring @ buried the husband with whom life had been shared for thirty years.",
    question: "Who is a widow?",
  },
  {
    sentence: "With a stick, dark glasses and a trained dog @ finds the way to work.",
    question: "Who is blind?",
  },
  {
    sentence: "Night after night @ watches the moons of Jupiter through a tube on the roof.",
    question: "Who is interested in astronomy?",
  },
  {
    sentence: "The doctors told @ to inject insulin before every meal.",
    question: "Who has diabetes?",
  },
  {
    sentence: "In the orchestra @ sits among the first violins.",
    question: "Who is a musician by profession?",
  },
];
