import { useEffect, useState } from "react";
import type { MemoryEstimate } from "../../../contract/memory.ts";
import { formatBytes, formatCount } from "../../format.ts";
import { useApp } from "../../store/app.ts";
import { t } from "../../strings/index.ts";
import { ErrorNote } from "../../ui/ErrorNote.tsx";
import lens from "../lens/lens.module.css";
import { kindColour } from "./kindColour.ts";
import styles from "./memory.module.css";
import { needAt } from "./need.ts";

/** What another model, profile or context would need. */
export function WhatIf() {
  const models = useApp((app) => app.models);
  const refreshModels = useApp((app) => app.refreshModels);
  const estimate = useApp((app) => app.estimate);
  const error = useApp((app) => app.estimateError);
  const load = useApp((app) => app.loadEstimate);
  const [model, setModel] = useState("");
  const [profile, setProfile] = useState<"own" | "uniform">("own");
  useEffect(() => {
    if (models === null) void refreshModels();
  }, [models, refreshModels]);
  useEffect(() => {
    void load({
      ...(model === "" ? {} : { model }),
      ...(profile === "own" ? {} : { profile }),
    });
  }, [load, model, profile]);
  const here = (models ?? []).filter(({ state }) => state === "ready");
  return (
    <section className={styles.whatIf} aria-label={t("memory.whatIf")}>
      <label className={lens.select}>
        {t("memory.whatModel")}
        <select value={model} onChange={(event) => setModel(event.target.value)}>
          <option value="">{t("memory.whatChosen")}</option>
          {here.map(({ id, name }) => (
            <option key={id} value={id}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label className={lens.select}>
        {t("memory.whatProfile")}
        <select
          value={profile}
          onChange={(event) => setProfile(event.target.value as "own" | "uniform")}
        >
          {(["own", "uniform"] as const).map((name) => (
            <option key={name} value={name}>
              {t(`memory.whatProfiles.${name}`)}
            </option>
          ))}
        </select>
      </label>
      {error !== null && <ErrorNote error={error} />}
      {error === null && estimate !== null && (
        <Need key={estimate.model.fingerprint} estimate={estimate} />
      )}
    </section>
  );
}

const contextStep = 1024;

function Need({ estimate }: { estimate: MemoryEstimate }) {
  const { contextTokens } = estimate.model;
  const [context, setContext] = useState(contextTokens);
  const need = needAt(estimate, context);
  const scale = Math.max(need.bytes, estimate.availableBytes);
  const fits = need.bytes <= estimate.availableBytes;
  return (
    <>
      <label className={lens.select}>
        {t("memory.whatContext")}
        <input
          type="range"
          min={Math.min(contextStep, contextTokens)}
          max={contextTokens}
          step={contextStep}
          value={context}
          aria-valuetext={t("memory.whatTokens", { tokens: formatCount(context) })}
          onChange={(event) => setContext(Number(event.target.value))}
        />
        {t("memory.whatTokens", { tokens: formatCount(context) })}
      </label>
      <div className={styles.need} aria-hidden="true">
        {need.parts.map(({ kind, bytes }) => (
          <i
            key={kind}
            style={{ background: kindColour(kind), width: `${(100 * bytes) / scale}%` }}
          />
        ))}
      </div>
      <p aria-live="polite">
        <strong>
          {t(fits ? "memory.whatFits" : "memory.whatTooMuch", {
            bytes: formatBytes(need.bytes),
            available: formatBytes(estimate.availableBytes),
          })}
        </strong>
        <br />
        {t("memory.whatParts", {
          weights: formatBytes(estimate.weightsBytes),
          workspace:
            estimate.workspaceBytes === null
              ? t("memory.whatUnknown")
              : formatBytes(estimate.workspaceBytes),
          kv: formatBytes(need.kvBytes),
          digests: formatBytes(need.digestBytes),
        })}
      </p>
    </>
  );
}
