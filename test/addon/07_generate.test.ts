import { describe, expect, test } from "vitest";
import type { Engine, GeneratedToken } from "../../host/engine/engine.ts";
import { someTokens, useEngine } from "./support.ts";

const engine = useEngine();

async function ask(on: Engine, question: string): Promise<number> {
  const prompt = `<|im_start|>user\n${question}<|im_end|>\n<|im_start|>assistant\n`;
  const sequence = await on.createSequence();
  await on.prefill(sequence, await on.tokenize(prompt, true));
  return sequence;
}

describe("generate", () => {
  test("streams the tokens that its report holds and stops at the end of the turn", async () => {
    const sequence = await ask(engine(), "What is the capital of France? Answer in one word.");
    const tokens: GeneratedToken<"none">[] = [];
    const report = await engine().generate(sequence, {
      maxTokens: 100,
      onToken: (token) => tokens.push(token),
    });
    expect(report.stop).toBe("end_of_turn");
    expect(report.text).toContain("Paris");
    expect(tokens.map(({ token }) => token)).toEqual([...report.tokens]);
    expect(tokens.map(({ text }) => text).join("")).toBe(report.text);
    expect(tokens.every(({ trace }) => trace === null)).toBe(true);
    expect(report.steps).toBeGreaterThan(0);
    expect(report.seconds).toBeGreaterThan(0);
    await engine().release(sequence);
  });

  test("stops at the number of tokens, with a trace of each step", async () => {
    const sequence = await ask(engine(), "Count from one to one hundred.");
    const depth = (await engine().sequenceTokens(sequence)).length;
    const depths: (number | undefined)[] = [];
    let kvBytes = 0;
    const report = await engine().generate<"counts">(sequence, {
      maxTokens: 8,
      trace: "counts",
      onToken: ({ trace }) => {
        depths.push(trace?.depthTokens);
        kvBytes += trace?.kvBytes ?? 0;
      },
    });
    expect(report.stop).toBe("max_tokens");
    expect(report.tokens).toHaveLength(8);
    // The first token's logits are the prompt's.
    expect(depths[0]).toBeUndefined();
    expect(depths.slice(1)).toEqual(Array.from({ length: 7 }, (_value, i) => depth + 1 + i));
    expect(report.kvBytes).toBeGreaterThanOrEqual(kvBytes);
    await engine().release(sequence);
  });

  test("the same seed gives the same tokens, another seed others", async () => {
    const sequence = await ask(engine(), "Tell me a story.");
    const answer = async (seed: number) => {
      const fork = await engine().fork(sequence);
      // The fork's logits are those of the last call, whichever it was.
      await engine().decode(fork, 504);
      const report = await engine().generate(fork, { maxTokens: 12, temperature: 1.5, seed });
      await engine().release(fork);
      return report.text;
    };
    const first = await answer(1);
    expect(await answer(1)).toBe(first);
    expect(await answer(2)).not.toBe(first);
    await engine().release(sequence);
  });

  test("a signal stops it; what was written stays", async () => {
    const sequence = await ask(engine(), "Write a long poem about the sea.");
    const controller = new AbortController();
    let seen = 0;
    const report = await engine().generate(sequence, {
      maxTokens: 1000,
      signal: controller.signal,
      onToken: () => {
        if (++seen === 3) controller.abort();
      },
    });
    expect(report.stop).toBe("cancelled");
    expect(report.tokens.length).toBeGreaterThanOrEqual(3);
    expect(report.tokens.length).toBeLessThan(1000);
    expect(report.tokens).toHaveLength(seen);
    await engine().release(sequence);
  });

  test("a callback that throws ends it with what it threw", async () => {
    const sequence = await ask(engine(), "Write a long poem about the sea.");
    for (const thrown of [new RangeError("from the callback"), "a text", undefined]) {
      const fork = await engine().fork(sequence);
      await engine().decode(fork, 504);
      const call = engine().generate(fork, {
        maxTokens: 1000,
        onToken: () => {
          throw thrown;
        },
      });
      await expect(call.catch((error: unknown) => ({ error }))).resolves.toEqual({ error: thrown });
      await engine().release(fork);
    }
    await engine().release(sequence);
  });
});

describe("the mass kept", () => {
  test("is measured at every so many-th step, and only then", async () => {
    const sequence = await engine().createSequence();
    await engine().prefill(sequence, someTokens(700));
    const measured: (Float32Array | null)[] = [];
    await engine().generate<"mass">(sequence, {
      maxTokens: 6,
      budgetTokens: 320,
      trace: "mass",
      keptEverySteps: 3,
      onToken: ({ trace }) => {
        if (trace !== null) measured.push(trace.massKept);
      },
    });
    expect(measured.length).toBeGreaterThan(3);
    for (const [step, kept] of measured.entries()) {
      if (step % 3 !== 0) expect(kept).toBeNull();
      else expect(kept?.every((share) => share > 0 && share <= 1)).toBe(true);
    }
    expect(measured[0]!.some((share) => share < 0.99)).toBe(true);
    await engine().release(sequence);
  });
});

describe("stream", () => {
  test("yields every token and then has the report", async () => {
    const sequence = await ask(engine(), "What is the capital of France? Answer in one word.");
    const stream = engine().stream(sequence, { maxTokens: 50, trace: "mass" });
    let text = "";
    let steps = 0;
    for await (const token of stream) {
      text += token.text;
      if (token.trace) steps += token.trace.mass.length > 0 ? 1 : 0;
    }
    const report = await stream.report;
    expect(text).toBe(report.text);
    expect(steps).toBe(report.tokens.length - 1);
    await engine().release(sequence);
  });

  test("leaving the loop stops the engine", async () => {
    const sequence = await ask(engine(), "Write a long poem about the sea.");
    const stream = engine().stream(sequence, { maxTokens: 1000 });
    for await (const _token of stream) break;
    expect((await stream.report).stop).toBe("cancelled");
    await engine().release(sequence);
  });

  test("a failure ends the loop with its error", async () => {
    const stream = engine().stream(99_999);
    const loop = async () => {
      for await (const _token of stream);
    };
    await expect(loop()).rejects.toMatchObject({ code: "invalid_argument" });
    await expect(stream.report).rejects.toMatchObject({ code: "invalid_argument" });
  });

  test("a failure that nobody awaits is no unhandled rejection", async () => {
    engine().stream(99_999);
    await engine().memory();
  });

  test("a signal that was aborted before refuses the call", async () => {
    const sequence = await engine().createSequence();
    await engine().prefill(sequence, someTokens(3));
    const stream = engine().stream(sequence, { signal: AbortSignal.abort() });
    await expect(stream.report).rejects.toMatchObject({ code: "cancelled" });
    await engine().release(sequence);
  });
});
