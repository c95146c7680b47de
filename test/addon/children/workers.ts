// Worker threads that use the addon, which the main thread does not load. Arguments: model, way.
import { Worker } from "node:worker_threads";

const [, , modelPath = "", way = ""] = process.argv;
const script = new URL("./worker.ts", import.meta.url);

const start = (task: string) => new Worker(script, { workerData: { modelPath, task } });
const message = (worker: Worker) =>
  new Promise<string>((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  });
const exit = (worker: Worker) => new Promise<number>((resolve) => worker.once("exit", resolve));

const ways: Record<string, () => Promise<void>> = {
  async answer() {
    const workers = [start("answer"), start("answer")];
    const exits = workers.map(exit);
    const [first, second] = await Promise.all(workers.map(message));
    if (first === second && first !== undefined) console.log("two workers agree:", first);
    const codes = await Promise.all(exits);
    if (codes.some((code) => code !== 0)) process.exitCode = 1;
  },
  async terminate() {
    let count = 0;
    for (let round = 0; round < 3; round++) {
      const workers = [start("prefill"), start("prefill")];
      await Promise.all(workers.map(message));
      await Promise.all(workers.map((worker) => worker.terminate()));
      count += workers.length;
    }
    console.log(`terminated ${count}`);
  },
  async anyMoment() {
    let count = 0;
    for (let round = 0; round < 10; round++) {
      const workers = [start("everything"), start("everything")];
      await new Promise((resolve) => setTimeout(resolve, 70 * round));
      await Promise.all(workers.map((worker) => worker.terminate()));
      count += workers.length;
    }
    console.log(`terminated ${count}`);
  },
  async exit() {
    const codes: number[] = [];
    for (let round = 0; round < 3; round++) codes.push(await exit(start("exit")));
    console.log(`codes ${codes}`);
  },
  async processExit() {
    const workers = [start("prefill"), start("prefill")];
    await Promise.all(workers.map(message));
    process.exit(3);
  },
};

await ways[way]?.();
