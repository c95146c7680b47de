/** The pairs of block size and budget that a calibration chooses from. */
import type { RunParsed } from "../../contract/routes.ts";
import { uniformBlockTokens } from "../models/headProfile.ts";
import type { Choice } from "./allocateHeads.ts";
import type { ErrorTable } from "./errorTable.ts";
import { headReading } from "./readCost.ts";

/** At which the bytes of choices are compared. */
export interface Reference {
  contextTokens: number;
  budgetTokens: number;
}

/** Its place in the table, too. */
export type HeadChoice = Choice & { index: number; recall: number };

/** The choices of each head with their bytes at the reference, and the index into the table. */
export function choicesOf(
  table: ErrorTable,
  heads: number,
  headDim: number,
  reference: Reference,
): HeadChoice[][] {
  const { blockTokens, budgetTokens } = table;
  return Array.from({ length: heads }, (_, head) =>
    blockTokens.flatMap((block, b) =>
      budgetTokens.map((budget, t) => {
        const index = (head * blockTokens.length + b) * budgetTokens.length + t;
        const reading = headReading(block, budget, reference.contextTokens, headDim);
        return {
          index,
          blockTokens: block,
          // A head reads its forced tokens and one block, however small its budget.
          budgetTokens: reading.tokens,
          bytes: reading.kvBytes + reading.digestBytes,
          error: table.outputError[index]!,
          recall: table.recall[index]!,
        };
      }),
    ),
  );
}

/** The choices that the calibration may make for a head, with what it makes least for their error.
 * @param influence of the head, for the objective that weighs its error by it */
export function offeredOf(
  head: HeadChoice[],
  { blockTokens, budgetTokens }: ErrorTable,
  reference: Reference,
  { objective, allocate }: Pick<RunParsed<"heads.calibrate">, "objective" | "allocate">,
  influence = 1,
): HeadChoice[] {
  const block = blockTokens.indexOf(uniformBlockTokens);
  const budget = budgetTokens.indexOf(reference.budgetTokens);
  const weighed = ({ error, recall }: HeadChoice) =>
    ({ influence: influence * error, error, recall: 1 - recall })[objective];
  return head
    .filter((_choice, at) => {
      const isOfBlock = Math.floor(at / budgetTokens.length) === block;
      const isOfBudget = at % budgetTokens.length === budget;
      return allocate === "both" || (allocate === "blocks" ? isOfBudget : isOfBlock);
    })
    .map((choice) => ({ ...choice, error: weighed(choice) }));
}
