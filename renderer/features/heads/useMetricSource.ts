import { useMemo } from "react";
import type { HeadTable } from "../../../contract/heads.ts";
import { type MeasuredMass, massHistoryOf, readingOf, traces } from "../../live/traces.ts";
import { useApp } from "../../store/app.ts";
import type { MetricSource } from "./metrics.ts";

/** The answer of before that the maps show; "live": the one that is being written. */
function useShownAnswer() {
  return useApp(({ focus, writing, readMaps }) => {
    if (focus === null || focus.turnId === writing?.turnId) return "live";
    const kept = readMaps[focus.turnId]?.heads ?? null;
    return kept === null && focus.turnId === traces.turnId ? "live" : kept;
  });
}

/** Where the numbers of the map come from, as of now. */
export function useMetricSource(table: HeadTable): () => MetricSource {
  const curves = useApp((app) => app.curves);
  const against = useApp((app) => app.otherHeads);
  const answer = useShownAnswer();
  return useMemo(() => {
    const kept = answer === "live" || answer === null ? null : readingOf(answer);
    return () => ({
      table,
      curves,
      against,
      reading: answer === "live" ? traces.latest : kept,
    });
  }, [table, curves, against, answer]);
}

/** How much was kept of dense attention over the answer that is shown. */
export function useMassHistory(): () => readonly MeasuredMass[] {
  const answer = useShownAnswer();
  return useMemo(() => {
    const kept = answer === "live" || answer === null ? [] : massHistoryOf(answer);
    return () => (answer === "live" ? traces.massHistory() : kept);
  }, [answer]);
}
