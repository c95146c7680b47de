import type { Settings } from "../../contract/settings.ts";

/** The chosen model, profile and device, as runs take them: what is absent is the host's default. */
export const engineChoice = ({ model, profile, device, threads }: Settings) => ({
  ...(model === null ? {} : { model }),
  ...(profile === null ? {} : { profile }),
  device,
  threads,
});
