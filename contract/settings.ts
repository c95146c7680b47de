/** What a person has chosen, kept by the host for all of its shells. */
import { z } from "zod";
import { modes } from "./answer.ts";

export const devices = ["auto", "cpu", "cuda"] as const;
export type Device = (typeof devices)[number];

export const themes = ["system", "light", "dark"] as const;
export type Theme = (typeof themes)[number];

export const textSizes = ["small", "usual", "large"] as const;
export type TextSize = (typeof textSizes)[number];

/** What a window remembers of itself (panes, shortcuts, the last document); the host only keeps it. */
const windowStateSchema = z
  .record(z.string().max(100), z.json())
  .refine(
    (state) => JSON.stringify(state).length <= 65_536,
    "what a window remembers has at most 65,536 characters",
  );

export const settingsSchema = z.strictObject({
  /** A catalog id or the path of a GGUF; null: the best of the catalog that fits. */
  model: z.string().min(1).max(4096).nullable(),
  /** Path of a head profile, or "uniform"; null: the model's own where there is one. */
  profile: z.string().min(1).max(4096).nullable(),
  device: z.enum(devices),
  /** 0: the machine's cores. */
  threads: z.int().min(0).max(1024),
  mode: z.enum(modes),
  /** Null: the model's own, which its head profile holds. */
  budgetTokens: z.int().min(1).max(16_777_216).nullable(),
  temperature: z.number().min(0).max(10),
  maxTokens: z.int().min(1).max(1_048_576),
  /** What KV on disk may take; null: no limit. */
  diskLimitBytes: z.number().int().min(0).nullable(),
  theme: z.enum(themes),
  /** Of questions and answers. */
  textSize: z.enum(textSizes),
  /** Whether Enter sends the question; else Ctrl+Enter does, and Enter begins a line. */
  enterSends: z.boolean(),
  window: windowStateSchema,
});
export type Settings = z.infer<typeof settingsSchema>;

export const defaultSettings: Settings = {
  model: null,
  profile: null,
  device: "auto",
  threads: 0,
  mode: "ab-sparse",
  budgetTokens: null,
  temperature: 0,
  maxTokens: 512,
  diskLimitBytes: 50e9,
  theme: "system",
  textSize: "usual",
  enterSends: true,
  window: {},
};
