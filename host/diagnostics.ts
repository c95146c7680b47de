/** What to copy into a report of a defect: versions, checks, settings, sizes. No text of documents and
 * chats, no titles, and paths only as far as they are Scholia's own. */
import { homedir, release } from "node:os";
import type { CheckLine } from "../contract/routes.ts";
import type { Settings } from "../contract/settings.ts";

export interface DiagnosticFacts {
  version: string;
  checks: CheckLine[];
  settings: Settings;
  counts: { documents: number; reads: number; readBytes: number; chats: number; queue: number };
  /** The engine's and its libraries' last lines. */
  log: string[];
}

export function diagnosticsText({
  version,
  checks,
  settings,
  counts,
  log,
}: DiagnosticFacts): string {
  const { window: _window, ...chosen } = settings;
  const lines = [
    `Scholia ${version}, Node ${process.versions.node}, ${process.platform} ${release()} on ${process.arch}`,
    "",
    ...checks.map(({ state, name, detail }) => `[${state}] ${name}: ${detail}`),
    "",
    `Settings: ${JSON.stringify(chosen)}`,
    `Library: ${counts.documents} documents, ${counts.reads} reads (${counts.readBytes} bytes), ${counts.chats} chats, ${counts.queue} in the queue`,
    "",
    `Last ${log.length} lines of the log:`,
    ...log,
  ];
  // The home folder holds a person's name.
  return `${lines.join("\n").replaceAll(homedir(), "~")}\n`;
}
