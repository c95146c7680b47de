import { existsSync } from "node:fs";
import { expect, test } from "vitest";
import { documentNames } from "../../../build/documents.ts";
import { realDocument, realDocumentPath } from "../../fixtures/realDocuments.ts";

test("the real documents are here, or their tests say why they are skipped", (context) => {
  for (const name of documentNames) realDocument(name, context);
  expect(documentNames.map(realDocumentPath).every((path) => existsSync(path))).toBe(true);
});

test("a document that is not here skips the test that wants it", () => {
  let reason: string | undefined;
  const skip = (text?: unknown): never => {
    reason = String(text);
    throw new Error("skipped");
  };
  expect(() => realDocument("no-such-document.pdf", { skip })).toThrow("skipped");
  expect(reason).toContain("no-such-document.pdf");
});
