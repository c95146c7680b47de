// Ends the process in the way that is asked for. Arguments: model, way.
import { libraryDir, loadAddon } from "../../../host/engine/addon.ts";

const [, , modelPath = "", way = ""] = process.argv;
const addon = loadAddon();
addon.initialise(libraryDir(), () => {});
const reached = () => console.log(`reached: ${way}`);

async function opened() {
  const engine = new addon.Engine();
  await engine.open({ modelPath, threads: 1, chunkTokens: 64 }).promise;
  return engine;
}

async function prefilling(onProgress: () => void) {
  const engine = await opened();
  const sequence = await engine.createSequence().promise;
  engine.prefill(sequence, new Int32Array(7000).fill(500), {}, ({ doneTokens }) => {
    if (doneTokens > 0) onProgress();
  });
  return engine;
}

const exitSoon = () => {
  reached();
  setTimeout(() => process.exit(3), 5);
};

const ways: Record<string, () => Promise<unknown>> = {
  async idle() {
    (globalThis as { kept?: unknown }).kept = await opened();
    reached();
  },
  async exitIdle() {
    await opened();
    exitSoon();
  },
  exitInPrefill: () => prefilling(exitSoon),
  exitInCallback: () =>
    prefilling(() => {
      reached();
      process.exit(3);
    }),
  async exitInAnswer() {
    const engine = await opened();
    const sequence = await engine.createSequence().promise;
    await engine.prefill(sequence, new Int32Array(70).fill(500)).promise;
    engine.generate(sequence, { maxTokens: 4000, trace: "mass", temperature: 2 }, exitSoon);
    for (let i = 0; i < 10; i++) engine.memory();
  },
  async exitInOpen() {
    new addon.Engine().open({ modelPath });
    exitSoon();
  },
  async exitWithTwo() {
    await prefilling(() => {});
    await prefilling(exitSoon);
  },
  uncaught: () =>
    prefilling(() => {
      reached();
      setImmediate(() => {
        throw new Error("nobody catches this");
      });
    }),
  async awaited() {
    const engine = await opened();
    const sequence = await engine.createSequence().promise;
    const { doneTokens } = await engine.prefill(sequence, new Int32Array(200).fill(500)).promise;
    console.log(`prefilled ${doneTokens}`);
  },
};

await ways[way]?.();
