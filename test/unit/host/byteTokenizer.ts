import type { Tokenizer } from "../../../host/tokens/tokenize.ts";

/** A tokenizer whose vocabulary is made as it goes: a token is any run of bytes, so that letters fall
 * apart as they do in real vocabularies. `<|name|>` is a special token where it is asked for. */
export class ByteTokenizer implements Tokenizer {
  private readonly vocabulary: Buffer[] = [];
  private readonly ids = new Map<string, number>();
  private readonly nextLength: () => number;
  readonly specials = new Set<number>();

  constructor(nextLength: () => number) {
    this.nextLength = nextLength;
  }

  async tokenize(text: string, parseSpecial: boolean): Promise<Int32Array> {
    const tokens: number[] = [];
    for (const part of parseSpecial ? text.split(/(<\|\w+\|>)/) : [text]) {
      if (parseSpecial && /^<\|\w+\|>$/.test(part)) {
        const id = this.id(Buffer.from(part), "special ");
        this.specials.add(id);
        tokens.push(id);
        continue;
      }
      const bytes = Buffer.from(part);
      for (let at = 0; at < bytes.length; ) {
        const end = Math.min(bytes.length, at + Math.max(1, this.nextLength()));
        tokens.push(this.id(bytes.subarray(at, end)));
        at = end;
      }
    }
    return Int32Array.from(tokens);
  }

  async detokenize(tokens: Int32Array): Promise<string> {
    return Buffer.concat([...tokens].map((token) => this.vocabulary[token]!)).toString("utf8");
  }

  bytesOf(token: number): Buffer {
    return this.vocabulary[token]!;
  }

  private id(bytes: Buffer, prefix = ""): number {
    const key = prefix + bytes.toString("hex");
    let id = this.ids.get(key);
    if (id === undefined) {
      id = this.vocabulary.push(Buffer.from(bytes)) - 1;
      this.ids.set(key, id);
    }
    return id;
  }
}
