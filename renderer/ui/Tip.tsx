import { Tooltip } from "radix-ui";
import type { ReactElement } from "react";
import { Keys } from "./Keys.tsx";
import styles from "./ui.module.css";

export const TipProvider = Tooltip.Provider;

/** A short name that appears beside a control. */
export function Tip({
  text,
  keys = null,
  children,
}: {
  text: string;
  keys?: string | null;
  children: ReactElement;
}) {
  return (
    <Tooltip.Root>
      <Tooltip.Trigger asChild>{children}</Tooltip.Trigger>
      <Tooltip.Portal>
        <Tooltip.Content className={styles.tip} sideOffset={6} collisionPadding={8}>
          {text}
          {keys !== null && <Keys keys={keys} />}
        </Tooltip.Content>
      </Tooltip.Portal>
    </Tooltip.Root>
  );
}
