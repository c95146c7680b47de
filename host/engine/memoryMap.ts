/** Where the memory goes, as a tree: the engine's own counts, shared out where they divide exactly. */
import { freemem } from "node:os";
import type { MemoryMap, MemoryNode, MemorySample } from "../../contract/memory.ts";
import { thisMachine } from "../models/defaultModel.ts";
import type { TensorSize } from "../models/ggufTensors.ts";
import type { Engine, MemoryReport, ModelInfo } from "./engine.ts";

const samplesKept = 600;

/** The last minutes of memory, a sample at a time. */
export class MemoryTimeline {
  private readonly samples: MemorySample[] = [];

  add(report: MemoryReport, doing: MemorySample["doing"]): MemorySample {
    const { kvPoolBytes: _limit, ...held } = report;
    const sample = { at: new Date().toISOString(), ...held, doing };
    this.samples.push(sample);
    if (this.samples.length > samplesKept) this.samples.shift();
    return sample;
  }

  list(): MemorySample[] {
    return [...this.samples];
  }
}

/** @param engine the one that is open, with what it holds; null: none
 * @param tensors of its model's file; null: not known */
export function memoryMap(
  engine: { engine: Pick<Engine, "model" | "device">; report: MemoryReport } | null,
  tensors: TensorSize[] | null,
  timeline: MemorySample[],
): MemoryMap {
  const { rss: residentBytes, heapTotal, external } = process.memoryUsage();
  const { memoryBytes } = thisMachine();
  const free = freemem();
  const own = engine === null ? [] : engineNodes(engine.engine.model, engine.report, tensors);
  // What lies on a device of its own is no part of the process.
  const isOnHost = engine === null || engine.engine.device.startsWith("cpu");
  const counted = isOnHost ? own.reduce((sum, { bytes }) => sum + bytes, 0) : 0;
  const script = heapTotal + external;
  const rest = Math.max(0, residentBytes - counted - script);
  const children: MemoryNode[] = [
    ...own,
    ...(isOnHost
      ? []
      : [{ name: "Free on the device", kind: "free" as const, bytes: engine.report.freeBytes }]),
    {
      ...group("Host process", [
        { name: "JavaScript", kind: "process", bytes: script },
        { name: "Programs, mapped files and what allocators keep", kind: "process", bytes: rest },
      ]),
      kind: "process",
    },
    {
      name: "Other programs",
      kind: "process",
      bytes: Math.max(0, memoryBytes - free - counted - script - rest),
    },
    { name: "Free", kind: "free", bytes: free },
  ];
  return {
    model:
      engine === null
        ? null
        : {
            name: engine.engine.model.name,
            fingerprint: engine.engine.model.fingerprint,
            device: engine.engine.device,
          },
    root: group("Memory", children),
    residentBytes,
    timeline,
  };
}

function engineNodes(
  model: ModelInfo,
  report: MemoryReport,
  tensors: TensorSize[] | null,
): MemoryNode[] {
  return [
    weightsNode(report.weightsBytes, tensors ?? []),
    { ...group("Keys and values", kvNodes(model, report.kvBytes)), kind: "kv" },
    { name: "Past reads, kept", kind: "kept", bytes: report.kvKeptBytes },
    { name: "Digests", kind: "digests", bytes: report.digestBytes },
    { name: "Workspace", kind: "workspace", bytes: report.workspaceBytes },
  ];
}

/** The weights as the file has them, by layer, and what the engine holds beside that: norms as floats,
 * padding, matrices that are held twice. Where the engine holds less than the file has, only the sum is
 * known. */
export function weightsNode(bytes: number, tensors: TensorSize[]): MemoryNode {
  const inFile = tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
  if (tensors.length === 0 || inFile > bytes) return { name: "Weights", kind: "weights", bytes };
  const groups = new Map<string, MemoryNode[]>();
  for (const tensor of tensors) {
    const [, layer, rest] = /^blk\.(\d+)\.(.*)$/.exec(tensor.name) ?? [];
    const group = layer === undefined ? "Embeddings and output" : `layer ${layer}`;
    const name = (rest ?? tensor.name).replace(/\.weight$/, "");
    const node: MemoryNode = { name, kind: "weights", bytes: tensor.bytes };
    groups.set(group, [...(groups.get(group) ?? []), node]);
  }
  const children = [...groups]
    .map(([name, nodes]): MemoryNode => ({ ...group(name, nodes), kind: "weights" }))
    .sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  if (bytes > inFile) {
    children.push({ name: "Padding and conversion", kind: "weights", bytes: bytes - inFile });
  }
  return { ...group("Weights", children), kind: "weights" };
}

/** Every KV page holds the same tokens of all heads, so each head has an equal part. */
function kvNodes({ layers, kvHeads }: ModelInfo, bytes: number): MemoryNode[] {
  const perHead = bytes / (layers * kvHeads);
  return Array.from({ length: layers }, (_, layer) =>
    group(
      `layer ${layer}`,
      Array.from({ length: kvHeads }, (_, head) => ({
        name: `KV head ${head}`,
        kind: "kv" as const,
        bytes: perHead,
      })),
    ),
  );
}

function group(name: string, children: MemoryNode[]): MemoryNode {
  const bytes = children.reduce((sum, child) => sum + child.bytes, 0);
  return { name, kind: "group", bytes, children };
}
