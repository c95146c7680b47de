/** A chat as one file: Markdown for people, JSON for programs. */
import type { Answer, Citation } from "../../contract/answer.ts";
import type { Chat, ExportedChat, Turn } from "../../contract/chats.ts";

export function exportChat(chat: Chat, format: "markdown" | "json"): ExportedChat {
  const stem = fileStem(`${chat.documentTitle} - ${chat.title}`);
  if (format === "json") {
    const value = { format: "scholia chat", version: 1, ...chat };
    return { name: `${stem}.json`, text: `${JSON.stringify(value, null, 2)}\n` };
  }
  return { name: `${stem}.md`, text: markdown(chat) };
}

/** The branch that is shown; others are in the JSON. */
function markdown(chat: Chat): string {
  const turns = branchOf(chat);
  const branches = chat.tree.length - turns.length;
  const lines = [
    `# ${chat.title}`,
    "",
    `About *${chat.documentTitle}*${chat.pages === null ? "" : `, pages ${chat.pages}`}. Begun ${chat.startedAt}.`,
    ...(branches > 0 ? ["", `${branches} turns of other branches are left out.`] : []),
    ...turns.flatMap(turnLines),
  ];
  return `${lines.join("\n")}\n`;
}

function branchOf(chat: Chat): Turn[] {
  const byId = new Map(chat.tree.map((turn) => [turn.id, turn]));
  const branch: Turn[] = [];
  for (let id = chat.shown; id !== null; ) {
    const turn = byId.get(id);
    if (turn === undefined) break;
    branch.unshift(turn);
    id = turn.parentId;
  }
  return branch;
}

function turnLines({ question, text, state, answer, error }: Turn): string[] {
  const lines = [
    "",
    `## ${question.replace(/\s+/g, " ")}`,
    "",
    text === "" ? "*No answer.*" : text,
  ];
  if (state !== "answered")
    lines.push("", `*(${state}${error === null ? "" : `: ${error.message}`})*`);
  if (answer === null) return lines;
  if (answer.citations.length > 0) lines.push("", ...answer.citations.map(citationLine));
  return [...lines, "", certificate(answer)];
}

function citationLine({ quote, page, verified }: Citation): string {
  const where = verified ? (page === null ? "in the text" : `page ${page}`) : "not found";
  return `- “${quote.replace(/\s+/g, " ")}” (${where})`;
}

function certificate({ coverage, model }: Answer): string {
  const count = (tokens: number) => tokens.toLocaleString("en");
  const mode =
    coverage.budgetTokens === null
      ? "dense"
      : `AB-Sparse, ${count(coverage.budgetTokens)} tokens per head (${coverage.profile})`;
  return (
    `> ${count(coverage.tokensInContext)} of ${count(coverage.documentTokens)} tokens in context, ` +
    `pages ${coverage.pages} of ${coverage.documentPages}; ${mode}; ${model.name}.`
  );
}

/** Without what some file system does not allow in a name. */
function fileStem(title: string): string {
  const plain = title
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
    .replace(/[\u0000-\u001f<>:"/\\|?*]/g, " ")
    .replace(/\s+/g, " ")
    .trim();
  return plain.slice(0, 80).replace(/[. ]+$/, "") || "chat";
}
