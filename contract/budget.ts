/** How much of the context a token reads. */
import { z } from "zod";

/** At least so many tokens per KV head, and at least this share of the context, in percent. */
export const budgetSchema = z.strictObject({
  tokens: z.int().min(256).max(16_777_216),
  percent: z.number().min(0).max(100),
});
export type Budget = z.infer<typeof budgetSchema>;

/** A share of the context is never less than this. */
export const leastShareTokens = 1024;

/** Where nobody chose a budget and the model's profile has none. */
export const usualBudget: Budget = { tokens: 2048, percent: 0 };

/** In tokens, in a context of so many. */
export const budgetTokensAt = ({ tokens, percent }: Budget, contextTokens: number): number =>
  Math.max(tokens, Math.ceil((percent / 100) * contextTokens));
