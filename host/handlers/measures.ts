/** What the machine does: heads, memory, rates, and the measurements of them. */
import { bench } from "../answer/bench.ts";
import type { RequestHandlers, RunHandlers } from "../channel.ts";
import { memoryEstimate } from "../engine/memoryEstimate.ts";
import { memoryMap } from "../engine/memoryMap.ts";
import { probeModel } from "../engine/probeModel.ts";
import { calibrate } from "../kv/calibrate.ts";
import { ggufTensors, type TensorSize } from "../models/ggufTensors.ts";
import { blockSizes } from "../models/headProfile.ts";
import { headTable } from "../models/headTable.ts";
import { modelFile } from "../models/modelFile.ts";
import { measureQuality } from "../quality/quality.ts";
import { chooseProfile } from "../residentEngine.ts";
import type { Parts } from "./parts.ts";

export function measureRequests({ library, room, timeline, dataDir }: Parts) {
  let known: { path: string; tensors: TensorSize[] | null } | null = null;
  /** Of the model that is open; its file does not change while it is. */
  const tensorsOf = async (path: string) => {
    if (known?.path !== path) known = { path, tensors: await ggufTensors(path).catch(() => null) };
    return known.tensors;
  };
  const profileOf = async (settings: {
    model?: string | undefined;
    profile?: string | undefined;
  }) => {
    const { path } = await modelFile(settings.model, { fetch: false });
    const model = await probeModel(path);
    return {
      model,
      profile: await chooseProfile(settings.profile, model, dataDir, { notice() {} }),
    };
  };
  return {
    "heads.list": async (settings) => {
      const { model, profile } = await profileOf(settings);
      return headTable(model, profile);
    },
    "heads.curves": async (settings) => {
      const { profile } = await profileOf(settings);
      if (profile.file === null) return null;
      const { errorByBlock, errors, ...measured } = profile.file.measured;
      return {
        profile: profile.name,
        blockTokens: [...blockSizes],
        errorByBlock: errorByBlock.flat(),
        budgetTokens: errors?.budgetTokens ?? [],
        errorByBudget: errors?.table.flat() ?? [],
        uniform: measured.uniform,
        bytesPerToken: measured.bytesPerToken,
        uniformBytesPerToken: measured.uniformBytesPerToken,
        texts: profile.file.texts.map(({ name, kind, tokens }) => ({ name, kind, tokens })),
      };
    },
    "memory.map": async () => {
      const held = await room.memory();
      const tensors = held === null ? null : await tensorsOf(held.engine.model.path);
      return memoryMap(held, tensors, timeline.list());
    },
    "memory.estimate": async (settings) => {
      const { model, profile } = await profileOf(settings);
      return memoryEstimate(model, profile, await room.memory());
    },
    "rates.list": async () => library.rates.list(),
  } satisfies Partial<RequestHandlers>;
}

export function measureRuns({ room, documents, queue, asker, dataDir }: Parts) {
  return {
    "heads.calibrate": (input, sink) =>
      room.use(input, sink, (resident) => calibrate(input, resident, documents, dataDir, sink)),
    "bench.run": (input, sink) =>
      room.use(input, sink, (resident) => bench(input, resident.engine, sink)),
    "timing.steps": (input, sink) => queue.whileYielding(() => asker.timeSteps(input, sink)),
    "quality.run": (input, sink) =>
      room.use(input, sink, ({ engine, profile }) =>
        measureQuality(input, engine, profile.file, documents, dataDir, sink),
      ),
  } satisfies Partial<RunHandlers>;
}
