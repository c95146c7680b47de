import { describe, expect, test } from "vitest";
import { Engine } from "../../host/engine/engine.ts";
import { runChild, smollm2, someTokens } from "./support.ts";

const open = () => Engine.open({ modelPath: smollm2, threads: 1, chunkTokens: 64 });

describe("two engines in one process", () => {
  test("work at the same time and give the same bits", async () => {
    const engines = await Promise.all([open(), open()]);
    const tokens = someTokens(200);
    const rows = await Promise.all(
      engines.map(async (engine) => {
        await engine.prefill(await engine.createSequence(), tokens);
        return engine.logits();
      }),
    );
    expect(rows[1]).toEqual(rows[0]);
    await Promise.all(engines.map((engine) => engine.close()));
  });

  test("one goes on while the other is stopped and closed", async () => {
    const [first, second] = await Promise.all([open(), open()]);
    const controller = new AbortController();
    const stopped = first.prefill(await first.createSequence(), someTokens(7000), {
      signal: controller.signal,
    });
    const goesOn = second.prefill(await second.createSequence(), someTokens(300), {
      onProgress: () => controller.abort(),
    });
    await expect(stopped).rejects.toMatchObject({ code: "cancelled" });
    await first.close();
    expect((await goesOn).doneTokens).toBe(300);
    await second.close();
  });

  test("sequences belong to their engine", async () => {
    const [first, second] = await Promise.all([open(), open()]);
    const ids = [await first.createSequence(), await first.createSequence()];
    await expect(second.sequenceTokens(Math.max(...ids))).rejects.toMatchObject({
      code: "invalid_argument",
    });
    await Promise.all([first.close(), second.close()]);
  });
});

test("an engine that nobody holds is freed with its thread", async () => {
  const { code, output } = await runChild("forgotten.ts", [], ["--expose-gc"]);
  expect(output).toContain("engine threads left: 0");
  expect(code).toBe(0);
});
