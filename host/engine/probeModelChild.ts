/** The process that probeModel starts: opens one GGUF's header, reports, and ends. libllama may
 * assert on the file and take the process with it. */
import { toErrorValue } from "../../contract/errors.ts";
import { loadAddon } from "./addon.ts";
import type { ProbeReport } from "./probeModel.ts";

const inspect = async (path: string): Promise<ProbeReport> => {
  try {
    return { model: await loadAddon().inspectModel(path) };
  } catch (error) {
    return { error: toErrorValue(error) };
  }
};

void inspect(process.argv[2] ?? "").then((report) =>
  process.send?.(report, () => process.disconnect()),
);
