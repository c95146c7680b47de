/** What a model would need at any context. */
import { freemem } from "node:os";
import type { MemoryEstimate } from "../../contract/memory.ts";
import { digestBytesPerToken, kvBytesPerToken } from "../kv/readCost.ts";
import { engineProfile, uniformProfile } from "../models/headProfile.ts";
import type { ActiveProfile } from "../residentEngine.ts";
import type { Engine, MemoryReport, ModelInfo } from "./engine.ts";

/** @param open the engine that is open, with what it holds; null: none */
export function memoryEstimate(
  model: ModelInfo,
  profile: ActiveProfile,
  open: { engine: Pick<Engine, "model">; report: MemoryReport } | null,
): MemoryEstimate {
  const { name, fingerprint, contextTokens, headDim } = model;
  const { blockTokens } =
    profile.file === null ? uniformProfile(model) : engineProfile(profile.file);
  const own = open?.engine.model.fingerprint === fingerprint ? open.report : null;
  return {
    model: { name, fingerprint, contextTokens },
    profile: profile.name,
    weightsBytes: own?.weightsBytes ?? model.fileBytes,
    workspaceBytes: own?.workspaceBytes ?? null,
    kvBytesPerToken: kvBytesPerToken(model),
    digestBytesPerToken: blockTokens.reduce(
      (sum, block) => sum + digestBytesPerToken(block, headDim),
      0,
    ),
    availableBytes: open === null ? freemem() : availableBytes(open.report),
  };
}

function availableBytes(report: MemoryReport): number {
  const { freeBytes, weightsBytes, workspaceBytes, kvBytes, kvKeptBytes, digestBytes } = report;
  return freeBytes + weightsBytes + workspaceBytes + kvBytes + kvKeptBytes + digestBytes;
}
