import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Citation } from "../../../contract/answer.ts";
import { openLibrary } from "../../../host/store/library.ts";
import { answerOf } from "../../unit/store/answerOf.ts";

/** A chat of as many turns about the document of this path, as rows that the host itself would have written. */
export async function writeLongChat(data: string, path: string, turns: number): Promise<void> {
  const library = await openLibrary(data);
  const { chats } = library;
  const documentId = createHash("sha256")
    .update(await readFile(path))
    .digest("hex");
  const chatId = chats.create({ documentId, path, pages: null });
  for (let turn = 0; turn < turns; turn++) {
    const { turnId } = chats.ask(chatId, {
      question: `What does section ${turn + 1} say about damaged blocks?`,
      runId: crypto.randomUUID(),
      mode: "ab-sparse",
      budgetTokens: 2048,
      pages: null,
    });
    chats.answered(turnId, answerOf(text, { citations }), null);
  }
  library.close();
}

const text = [
  "Each block is handled **independently**, so an error in one leaves the others whole.",
  "- `bzip2recover` searches for the blocks and writes each into its own file.\n- `bzip2 -t` tests the files that come of it.",
  "| option | meaning |\n|---|---|\n| `-t` | test |\n| `-d` | decompress |",
  "Blocks are marked by a pattern of 48 bits; their checksums tell the good from the damaged.",
].join("\n\n");

const citations = [0, 1, 2].map(
  (sentence): Citation => ({
    quote: "bzip2recover is a simple program whose purpose is to search for blocks in .bz2 files",
    page: 9,
    verified: true,
    from: "quotation",
    match: "exact",
    start: 12_000,
    end: 12_090,
    sentence,
    boxes: [{ page: 9, left: 70, top: 200, width: 300, height: 10 }],
  }),
);
