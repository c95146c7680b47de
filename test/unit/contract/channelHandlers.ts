// Handlers whose replies a test can foresee; the channel under test is the real one.
import type { Answer } from "../../../contract/answer.ts";
import { ScholiaError } from "../../../contract/errors.ts";
import { requestInputs, runInputs } from "../../../contract/routes.ts";
import type { RequestHandlers, RunHandlers } from "../../../host/channel.ts";

const later = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Routes that these tests don't call. */
function unused<Handlers>(inputs: object): Handlers {
  const refuse = async () => {
    throw new ScholiaError("internal", "not for this test");
  };
  return Object.fromEntries(Object.keys(inputs).map((route) => [route, refuse])) as Handlers;
}

export const requests: RequestHandlers = {
  ...unused<RequestHandlers>(requestInputs),
  "host.hello": async () => ({ version: "9.9.9", pid: process.pid }),
  "host.check": async () => {
    throw new ScholiaError("model_not_found", "There is no such model.");
  },
  "models.list": async () => {
    throw new TypeError("a defect");
  },
  "heads.list": async (input) => ({
    model: input.model ?? "",
    fingerprint: `${input.device} ${input.threads}`,
    profile: "",
    calibrated: false,
    layers: 0,
    kvHeads: 0,
    histogram: [],
    reference: null,
    defaultBudget: { budget: { tokens: 2048, percent: 0 }, measured: null },
    heads: [],
  }),
  "chat.open": async () => ({ chatId: "c", turns: [] }),
};

export const runs: RunHandlers = {
  ...unused<RunHandlers>(runInputs),
  // Says its question word by word, with a trace for each, until it is stopped; after the word SLOWLY
  // with pauses.
  "answer.ask": async (input, sink) => {
    sink.notice(`budget ${input.budgetTokens}`);
    let said = "";
    let pauseMs = input.maxTokens < 100 ? input.maxTokens : 0;
    for (const word of input.question.split(" ")) {
      if (sink.signal.aborted) break;
      sink.text(`${word} `);
      said += `${word} `;
      if (input.trace) sink.trace(Uint8Array.of(said.length & 255));
      if (word === "SLOWLY") pauseMs = 10;
      if (pauseMs > 0) await later(pauseMs);
    }
    return { answer: said, stop: sink.signal.aborted ? "cancelled" : "end_of_turn" } as Answer;
  },
  "document.read": async () => {
    throw new ScholiaError("context_exceeded", "Too long.");
  },
  // Dies as a library that asserts would.
  "models.get": async () => {
    process.stderr.write("GGML_ASSERT(tensor != NULL) failed\n");
    process.abort();
  },
  // Writes far more to standard error than a pipe holds.
  "bench.run": async () => {
    for (let line = 0; line < 20_000; line++) process.stderr.write(`log line ${line}\n`);
    return [];
  },
  "heads.calibrate": async (_input, sink) => {
    await new Promise<void>((resolve) => {
      if (sink.signal.aborted) resolve();
      sink.signal.addEventListener("abort", () => resolve());
    });
    throw new ScholiaError("cancelled", "Stopped.");
  },
};
