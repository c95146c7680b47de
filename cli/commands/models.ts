import { bytes, count, table } from "../format.ts";
import type { EngineOptions } from "../options.ts";
import { exitCodes, type Shell } from "../shell.ts";

export async function listModels(
  shell: Shell,
  options: Pick<EngineOptions, "json">,
): Promise<number> {
  const models = await shell.expect(shell.client.request("models.list", {}));
  if (options.json) {
    shell.terminal.out(`${JSON.stringify(models, null, 2)}\n`);
    return exitCodes.ok;
  }
  const rows = models.map((model) => [
    `${model.id}${model.isDefault ? " *" : ""}`,
    model.name,
    bytes(model.bytes),
    count(model.contextTokens),
    model.licence,
    { ready: "here", partial: "begun", absent: "" }[model.state],
  ]);
  const header = ["id", "name", "size", "context", "licence", ""];
  shell.terminal.out(`${table(rows, header)}\n* used when no model is named\n`);
  return exitCodes.ok;
}

export async function getModel(
  shell: Shell,
  id: string,
  options: Pick<EngineOptions, "json">,
): Promise<number> {
  const got = await shell.follow(shell.client.open("models.get", { id }));
  shell.terminal.out(options.json ? `${JSON.stringify(got, null, 2)}\n` : `${got.path}\n`);
  return exitCodes.ok;
}
