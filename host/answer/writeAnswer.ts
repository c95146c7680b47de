/** decode → answer: the answer's text as it is written, and what the heads read for it. */
import type { Engine, GenerateCall, GenerateReport, TraceOf } from "../engine/engine.ts";
import type { TokenizedSegment } from "../tokens/tokenize.ts";
import { AttentionMap, pageMasses } from "./attention.ts";
import type { CitingHeads } from "./citingHeads.ts";

export interface WriteCall extends Omit<GenerateCall<"mass">, "trace" | "onToken"> {
  /** Hears each piece of the text; the trace is that of the step that it was chosen from, null for the
   * first one's. */
  onPiece?: (piece: string, trace: TraceOf["mass"] | null) => void;
}

export interface Written {
  text: string;
  report: GenerateReport;
  /** Of the document, one of each of the heads' choices. */
  attention: AttentionMap[];
}

/** Decodes an answer behind the document's segment and the question, and gathers what the heads read.
 * @param heads each for an attention map of its own */
export async function writeAnswer(
  engine: Engine,
  sequence: number,
  segment: TokenizedSegment,
  heads: readonly CitingHeads[],
  { onPiece = () => {}, ...call }: WriteCall,
): Promise<Written> {
  const { start, end } = documentTokens(segment);
  const attention = heads.map(({ haveSteadyPart }) => new AttentionMap(start, end, haveSteadyPart));
  let text = "";
  const report = await engine.generate<"mass">(sequence, {
    ...call,
    trace: "mass",
    onToken: (token) => {
      const piece = text === "" ? token.text.trimStart() : token.text;
      const { trace } = token;
      if (trace !== null) {
        for (const [index, map] of attention.entries()) {
          const masses = pageMasses(trace, heads[index]!.weights);
          map.add(masses, trace.depthTokens, piece, text.length);
        }
      }
      onPiece(piece, trace);
      text += piece;
    },
  });
  return { text: text.trimEnd(), report, attention };
}

/** The document's tokens [start, end) in the sequence that begins with its segment. */
export function documentTokens({ start }: TokenizedSegment): { start: number; end: number } {
  return {
    start: start.findIndex((place) => place >= 0),
    end: start.findLastIndex((place) => place >= 0) + 1,
  };
}
