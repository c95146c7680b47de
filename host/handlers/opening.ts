/** How documents are opened, by path or by their names in the library. */
import { ScholiaError } from "../../contract/errors.ts";
import type { RunSink } from "../channel.ts";
import type { Document } from "../document/document.ts";
import type { OpenDocuments } from "../prefill/readDocument.ts";
import type { Library } from "../store/library.ts";

interface NamedDocument {
  path?: string | undefined;
  documentId?: string | undefined;
  pages?: string | undefined;
}

type Listening = Pick<RunSink, "progress" | "notice" | "signal">;

export class Opening {
  private readonly library: Library;
  private readonly documents: OpenDocuments;

  constructor(library: Library, documents: OpenDocuments) {
    this.library = library;
    this.documents = documents;
  }

  /** Opens a document and writes down what was found out of it. */
  async noted(
    input: NamedDocument,
    sink: Listening,
  ): Promise<{ document: Document; path: string }> {
    const { document, path } = await this.open(input, sink);
    await this.library.documents
      .opened({
        id: document.id,
        path,
        name: document.name,
        kind: document.kind,
        fileTitle: document.title ?? null,
        pages: document.wholePageCount,
      })
      .catch((error: Error) =>
        sink.notice(`The library could not be brought up to date: ${error.message}`),
      );
    return { document, path };
  }

  /** A document that a window looks at: nothing is written, and there is no run to report to. */
  quietly(input: NamedDocument): Promise<{ document: Document; path: string }> {
    const silent = { progress() {}, notice() {}, signal: new AbortController().signal };
    return this.open(input, silent);
  }

  private async open(
    { path: given, documentId, pages }: NamedDocument,
    sink: Listening,
  ): Promise<{ document: Document; path: string }> {
    const path = given ?? (await this.library.documents.locate(documentId ?? ""));
    const document = await this.documents.open(path, pages, sink);
    if (documentId !== undefined && document.id !== documentId) {
      throw new ScholiaError(
        "document_not_found",
        `${document.name} was changed while it was opened. Add it again: it is another document now.`,
      );
    }
    return { document, path };
  }
}
