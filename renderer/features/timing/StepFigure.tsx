import { useRef, useState } from "react";
import type { Mode } from "../../../contract/answer.ts";
import { decodeStages, type StageTime, type StepTimings } from "../../../contract/timing.ts";
import {
  drawStepBars,
  floorSeconds,
  secondsOf,
  stageColour,
  stepColumns,
} from "../../draw/stepBars.ts";
import type { Surface } from "../../draw/surface.ts";
import { formatBytes, formatCount, formatNumber } from "../../format.ts";
import { useApp } from "../../store/app.ts";
import { t } from "../../strings/index.ts";
import { Button } from "../../ui/Button.tsx";
import { Canvas } from "../../ui/Canvas.tsx";
import { Choice } from "../../ui/Choice.tsx";
import { ErrorNote } from "../../ui/ErrorNote.tsx";
import { useColours } from "../../ui/useColours.ts";
import { useSize } from "../../ui/useSize.ts";
import lens from "../lens/lens.module.css";
import styles from "./timing.module.css";

/** Where the time of one decode step goes, against what its bytes take at least. */
export function StepFigure() {
  const steps = useApp((app) => app.steps);
  const state = useApp((app) => app.stepsState);
  const error = useApp((app) => app.stepsError);
  const measure = useApp((app) => app.measureSteps);
  return (
    <figure className={`${styles.chart} ${styles.stepFigure}`}>
      <figcaption>
        {t("timing.step")}
        <Button disabled={state === "measuring"} onClick={() => void measure()}>
          {t(state === "measuring" ? "timing.measuring" : "timing.measure")}
        </Button>
      </figcaption>
      {error !== null ? (
        <ErrorNote error={error} />
      ) : steps === null ? (
        <p>{t("timing.stepNone")}</p>
      ) : (
        <Step steps={steps} />
      )}
    </figure>
  );
}

function Step({ steps }: { steps: StepTimings }) {
  const [mode, setMode] = useState<Mode>("ab-sparse");
  const frame = useRef<HTMLDivElement>(null);
  const { width, height } = useSize(frame);
  const { ink, inkSoft, hairline } = useColours();
  const stages = steps.modes.find((timed) => timed.mode === mode)?.stages ?? [];
  const columns = stepColumns(stages, steps.bytesPerSecond);
  const draw = (surface: Surface) =>
    drawStepBars(
      surface,
      columns,
      width,
      height,
      { ink, inkSoft, hairline },
      {
        unit: t("timing.msByLayer"),
      },
    );
  return (
    <div className={styles.step}>
      <Choice<Mode>
        label={t("timing.what")}
        value={mode}
        choices={steps.modes.map(({ mode }) => ({ value: mode, label: t(`timing.kinds.${mode}`) }))}
        onChange={setMode}
      />
      <div ref={frame} className={styles.bars}>
        <Canvas
          width={width}
          height={height}
          draw={draw}
          role="img"
          aria-label={t("timing.stepLabel")}
        />
      </div>
      <StageTable stages={stages} steps={steps} />
    </div>
  );
}

/** The stages of all layers together. */
function StageTable({ stages, steps }: { stages: readonly StageTime[]; steps: StepTimings }) {
  const { bytesPerSecond, depthTokens } = steps;
  const rows = decodeStages.map((stage) => ({
    stage,
    times: stages.filter((time) => time.stage === stage),
  }));
  return (
    <table className={lens.table}>
      <caption>
        {t("timing.stepAt", {
          tokens: formatCount(depthTokens),
          rate: bytesPerSecond === null ? "–" : formatBytes(bytesPerSecond),
        })}
      </caption>
      <thead>
        <tr>
          <th scope="col">{t("timing.stage")}</th>
          <th scope="col">{t("timing.ms")}</th>
          <th scope="col">{t("timing.floor")}</th>
          <th scope="col">{t("memory.bytes")}</th>
        </tr>
      </thead>
      <tbody>
        {rows.map(({ stage, times }) => (
          <StageRow
            key={stage}
            name={t(`timing.stages.${stage}`)}
            colour={stageColour(stage)}
            times={times}
            bytesPerSecond={bytesPerSecond}
          />
        ))}
        <StageRow name={t("timing.whole")} times={stages} bytesPerSecond={bytesPerSecond} />
      </tbody>
    </table>
  );
}

function StageRow({
  name,
  colour,
  times,
  bytesPerSecond,
}: {
  name: string;
  colour?: string;
  times: readonly StageTime[];
  bytesPerSecond: number | null;
}) {
  const floor = floorSeconds(times, bytesPerSecond);
  return (
    <tr>
      <th scope="row">
        {colour !== undefined && <i className={styles.key} style={{ background: colour }} />}
        {name}
      </th>
      <td>{formatNumber(1000 * secondsOf(times))}</td>
      <td>{floor === null ? "–" : formatNumber(1000 * floor)}</td>
      <td>{formatBytes(times.reduce((sum, { bytes }) => sum + bytes, 0))}</td>
    </tr>
  );
}
