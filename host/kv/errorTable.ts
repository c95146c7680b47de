/** How wrong a head's output is and what attention it keeps, for each block size and budget. */
import { z } from "zod";

/** [heads][block sizes][budgets], flat. */
export const errorTableSchema = z.strictObject({
  blockTokens: z.array(z.int()),
  budgetTokens: z.array(z.int()),
  outputError: z.array(z.number()),
  recall: z.array(z.number()),
  queries: z.int(),
});
export type ErrorTable = z.infer<typeof errorTableSchema>;

/** Element by element. */
export function meanOf(tables: ErrorTable[]): ErrorTable {
  const [first] = tables;
  const mean = (of: (table: ErrorTable) => number[]) =>
    of(first!).map((_value, index) => {
      const sum = tables.reduce((total, table) => total + of(table)[index]!, 0);
      return sum / tables.length;
    });
  return {
    ...first!,
    outputError: mean((table) => table.outputError),
    recall: mean((table) => table.recall),
  };
}
