import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  documentTag,
  layOutPrompt,
  type Piece,
  type PromptDocument,
} from "../../../host/tokens/prompt.ts";

// ChatML, as many models use it.
const chatml = {
  chatTemplate:
    "{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content | trim + '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}",
  bosPiece: "<s>",
  eosPiece: "</s>",
};

const reminder = /Write the answer, .* in double quotes: "\.\.\."/g;
/** What is said after each question, as one word. */
const shortened = (text: string) => text.replace(reminder, "REMINDER");

const document = (text: string, cuts: number[] = []): PromptDocument => {
  const bounds = [0, ...cuts, text.length];
  return {
    id: "0123",
    text,
    pages: bounds.slice(1).map((end, index) => ({ number: index + 3, start: bounds[index]!, end })),
  };
};

const textOf = (pieces: Piece[]) => pieces.map((piece) => piece.text).join("");
const ofPart = (pieces: Piece[], part: Piece["part"]) =>
  pieces.filter((piece) => piece.part === part).map((piece) => piece.text);

describe("the prompt", () => {
  test("is the same document for an empty question", () => {
    const paper = document("Text.");
    const { document: told, conversation } = layOutPrompt(chatml, paper, [], "");
    const asked = layOutPrompt(chatml, paper, [], "One?");
    expect(told).toEqual(asked.document);
    expect(conversation.slice(1)).toEqual(asked.conversation.slice(1));
  });

  test("holds instructions, the pages under their numbers, then the question", () => {
    const { document: told, conversation } = layOutPrompt(
      chatml,
      document("First page.\nSecond page.", [12]),
      [],
      "What?",
    );
    const tag = documentTag({ id: "0123", text: "" });
    expect(textOf(told)).toMatch(/^<\|im_start\|>system\n/);
    expect(textOf(told)).toContain(
      `<${tag}>\n[page 3]\nFirst page.\n[page 4]\nSecond page.\n</${tag}><|im_end|>\n<|im_start|>user\n`,
    );
    expect(ofPart(told, "document")).toEqual(["First page.\n", "Second page."]);
    expect(shortened(textOf(conversation))).toBe(
      "What?\nREMINDER<|im_end|>\n<|im_start|>assistant\n",
    );
  });

  test("has the same document segment for every question, and turns in order", () => {
    const paper = document("Text.");
    const one = layOutPrompt(chatml, paper, [], "One?");
    const turns = [{ question: "One?", answer: "Yes." }];
    const two = layOutPrompt(chatml, paper, turns, "Two?");
    expect(two.document).toEqual(one.document);
    expect(shortened(textOf(two.conversation))).toBe(
      "One?\nREMINDER<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n<|im_start|>user\nTwo?\nREMINDER<|im_end|>\n<|im_start|>assistant\n",
    );
    // What was asked before is a prefix: its KV can be used.
    expect(two.conversation.slice(0, one.conversation.length)).toEqual(one.conversation);
    expect(ofPart(two.conversation, "answer")).toEqual(["Yes."]);
  });

  test("keeps the words of document and question out of the frame", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "binary", maxLength: 80 }),
        fc.string({ unit: "grapheme", minLength: 1, maxLength: 40 }),
        fc.constantFrom("<|im_end|>", "{{ 7 * 7 }}", "{% raw %}", "</document>", "[page 9]"),
        (text, question, nasty) => {
          const content = `${text}${nasty}`;
          const asked = `${question}${nasty}`;
          const prompt = layOutPrompt(chatml, document(content), [], asked);
          expect(ofPart(prompt.document, "document")).toEqual([content]);
          expect(ofPart(prompt.conversation, "question")).toEqual([asked]);
          const frames = ofPart([...prompt.document, ...prompt.conversation], "frame").join("");
          expect(frames.match(/<\|im_end\|>/g)).toHaveLength(2);
          expect(frames).not.toContain("49");
        },
      ),
      { numRuns: 60, seed: 9 },
    );
  });

  test("leaves out pages without text, but no others", () => {
    const paper = document("One. \n Two.", [4, 7]);
    const { document: told } = layOutPrompt(chatml, paper, [], "What?");
    expect(ofPart(told, "document")).toEqual(["One.", "Two."]);
    expect(textOf(told)).not.toContain("[page 4]");
  });

  test("puts the document into the first question where there is no system role", () => {
    const strict = {
      ...chatml,
      chatTemplate: `{%- if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{%- endif %}${chatml.chatTemplate}`,
    };
    const prompt = layOutPrompt(strict, document("Text."), [], "What?");
    expect(textOf(prompt.document)).toMatch(/^<\|im_start\|>user\nAnswer/);
    expect(shortened(textOf(prompt.conversation))).toBe(
      "What?\nREMINDER<|im_end|>\n<|im_start|>assistant\n",
    );
  });

  test("asks in plain text without a template, and says so", () => {
    const prompt = layOutPrompt({ ...chatml, chatTemplate: "" }, document("Text."), [], "What?");
    expect(shortened(textOf(prompt.conversation))).toBe("What?\nREMINDER\nAnswer:");
    expect(prompt.notices).toHaveLength(1);
  });

  test("refuses a template that loses the document, loops, or is none", () => {
    for (const chatTemplate of [
      "{{ messages[1].content }}",
      "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
      "{% for message in messages %}{{ message.role }}{% endfor %}",
      "{% if %}",
      "{{ messages[0].content }}{{ messages[0].content }}{{ messages[1].content }}",
    ]) {
      expect(() => layOutPrompt({ ...chatml, chatTemplate }, document("T"), [], "Q")).toThrow(
        expect.objectContaining({ code: "model_unsupported" }),
      );
    }
  });

  test("does not change with the day", () => {
    const dated = {
      ...chatml,
      chatTemplate: `{{ strftime_now('%d %b %Y') }}${chatml.chatTemplate}`,
    };
    const one = layOutPrompt(dated, document("T"), [], "Q");
    expect(textOf(one.document)).toMatch(/^1 January 2025<\|im_start\|>/);
  });

  test("has a tag that the document does not contain", () => {
    const first = documentTag({ id: "x", text: "" });
    expect(documentTag({ id: "x", text: "" })).toBe(first);
    const second = documentTag({ id: "x", text: `</${first}>` });
    expect(second).not.toBe(first);
    expect(documentTag({ id: "y", text: "" })).not.toBe(first);
  });
});
