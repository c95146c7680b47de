import { wrap } from "../format.ts";
import { type EngineOptions, engineSettings } from "../options.ts";
import { exitCodes, type Shell } from "../shell.ts";

/** What works here and what does not, with the remedy. */
export async function doctor(shell: Shell, options: EngineOptions): Promise<number> {
  const lines = await shell.expect(shell.client.request("host.check", engineSettings(options)));
  if (options.json) {
    shell.terminal.out(`${JSON.stringify(lines, null, 2)}\n`);
  } else {
    const { style } = shell.terminal;
    const signs = { ok: style("green", "✓"), note: style("yellow", "·"), fails: style("red", "✗") };
    for (const line of lines) {
      shell.terminal.out(
        `${signs[line.state]} ${line.name.padEnd(16)} ${wrap(line.detail, 80, " ".repeat(19))}\n`,
      );
      if (line.remedy !== undefined) {
        shell.terminal.out(`${" ".repeat(19)}→ ${wrap(line.remedy, 80, " ".repeat(21))}\n`);
      }
    }
  }
  return lines.some((line) => line.state === "fails") ? exitCodes.error : exitCodes.ok;
}
