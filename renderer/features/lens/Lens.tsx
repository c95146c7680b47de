import { AppWindow, Maximize2, Minimize2, X } from "lucide-react";
import { Tabs } from "radix-ui";
import { useApp, useAppStore } from "../../store/app.ts";
import { type LensTab, lensTabs } from "../../store/state.ts";
import { t } from "../../strings/index.ts";
import { IconButton } from "../../ui/Button.tsx";
import { CompareLens } from "../compare/CompareLens.tsx";
import { HeadsLens } from "../heads/HeadsLens.tsx";
import { MemoryLens } from "../memory/MemoryLens.tsx";
import { TimingLens } from "../timing/TimingLens.tsx";
import styles from "./lens.module.css";

const panels: Record<LensTab, () => React.ReactNode> = {
  heads: HeadsLens,
  memory: MemoryLens,
  timing: TimingLens,
  compare: CompareLens,
};

/** The drawer that shows what the machine does. */
export function Lens() {
  const store = useAppStore();
  const tab = useApp((app) => app.lensTab);
  const isLensWindow = useApp((app) => app.isLensWindow);
  const { showLens } = store.getState();
  const Panel = panels[tab];
  return (
    <section className={styles.lens} aria-label={t("lens.title")}>
      <Tabs.Root
        className={styles.tabs}
        value={tab}
        onValueChange={(value) => showLens(value as LensTab)}
      >
        <div className={styles.header}>
          <Tabs.List className={styles.tabList} aria-label={t("lens.title")}>
            {lensTabs.map((name) => (
              <Tabs.Trigger key={name} value={name} className={styles.tab}>
                {t(`lens.tabs.${name}`)}
              </Tabs.Trigger>
            ))}
          </Tabs.List>
          {!isLensWindow && <PlaceButtons />}
        </div>
        <Tabs.Content value={tab} className={styles.panel} tabIndex={-1}>
          <Panel />
        </Tabs.Content>
      </Tabs.Root>
    </section>
  );
}

/** Where the lens stands: drawer, whole window, a window of its own. */
function PlaceButtons() {
  const store = useAppStore();
  const isFull = useApp((app) => app.lensFull);
  const { toggleLensFull, detachLens, toggleLens } = store.getState();
  return (
    <>
      <IconButton label={t("lens.detach")} icon={<AppWindow size={15} />} onClick={detachLens} />
      <IconButton
        label={t(isFull ? "lens.smaller" : "lens.larger")}
        icon={isFull ? <Minimize2 size={15} /> : <Maximize2 size={15} />}
        onClick={toggleLensFull}
      />
      <IconButton
        label={t("lens.close")}
        keys="Ctrl+Shift+V"
        icon={<X size={16} />}
        onClick={toggleLens}
      />
    </>
  );
}
