// One worker thread of workers.ts.
import { parentPort, workerData } from "node:worker_threads";
import { libraryDir, loadAddon } from "../../../host/engine/addon.ts";

const { modelPath, task } = workerData as { modelPath: string; task: string };
const addon = loadAddon();
addon.initialise(libraryDir(), () => {});
const engine = new addon.Engine();
await engine.open({ modelPath, threads: 1, chunkTokens: 64 }).promise;
const sequence = await engine.createSequence().promise;
const say = (text: string) => parentPort?.postMessage(text);

const longPrefill = (onChunk: () => void) => {
  engine.prefill(sequence, new Int32Array(7000).fill(500), {}, ({ doneTokens }) => {
    if (doneTokens > 0) onChunk();
  });
};

const tasks: Record<string, () => Promise<void> | void> = {
  async answer() {
    const tokens = await engine.tokenize("The capital of France is", false).promise;
    await engine.prefill(sequence, tokens).promise;
    say((await engine.generate(sequence, { maxTokens: 3 }).promise).text);
    await engine.close();
  },
  prefill: () => longPrefill(() => say("prefilling")),
  exit: () => longPrefill(() => process.exit(5)),
  async everything() {
    while (true) {
      const other = await engine.createSequence().promise;
      await engine.prefill(other, new Int32Array(20).fill(500), {}, () => {}).promise;
      const jobs = [
        engine.generate(other, { maxTokens: 3, trace: "mass" }, () => {}),
        engine.memory(),
        engine.release(other),
      ];
      engine.cancel(jobs[1]!.id);
      await Promise.allSettled(jobs.map((job) => job.promise));
    }
  },
};

await tasks[task]?.();
