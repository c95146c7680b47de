import type { DocumentKind } from "./document.ts";

export interface DocumentType {
  kind: DocumentKind;
  /** As dialogs and the system's file manager say it. */
  name: string;
  mimeType: string;
  /** Of file names, small letters, without the dot. */
  extensions: readonly string[];
}

/** How files of each kind are called. What a file is, its content says first: see kind.ts. */
export const documentTypes: readonly DocumentType[] = [
  { kind: "pdf", name: "PDF document", mimeType: "application/pdf", extensions: ["pdf"] },
  {
    kind: "markdown",
    name: "Markdown document",
    mimeType: "text/markdown",
    extensions: ["md", "markdown", "mdown", "mkd", "mkdn", "mdx", "qmd", "rmd"],
  },
  { kind: "text", name: "Text document", mimeType: "text/plain", extensions: ["txt", "text"] },
];
