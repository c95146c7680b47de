import { Check } from "lucide-react";
import { DropdownMenu } from "radix-ui";
import type { ReactElement, ReactNode } from "react";
import { Keys } from "./Keys.tsx";
import styles from "./ui.module.css";

/** A menu that opens from a button. */
export function Menu({
  trigger,
  children,
  align = "start",
}: {
  trigger: ReactElement;
  children: ReactNode;
  align?: "start" | "end";
}) {
  return (
    <DropdownMenu.Root modal={false}>
      <DropdownMenu.Trigger asChild>{trigger}</DropdownMenu.Trigger>
      <DropdownMenu.Portal>
        <DropdownMenu.Content
          className={styles.menu}
          align={align}
          sideOffset={4}
          collisionPadding={8}
        >
          {children}
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  );
}

interface MenuItemProps {
  onSelect(): void;
  children: ReactNode;
  icon?: ReactNode;
  /** A second, quieter line. */
  detail?: string | undefined;
  keys?: string | null;
  disabled?: boolean;
  danger?: boolean;
}

export function MenuItem({
  onSelect,
  children,
  icon,
  detail,
  keys = null,
  disabled = false,
  danger = false,
}: MenuItemProps) {
  return (
    <DropdownMenu.Item
      className={[styles.menuItem, danger ? styles.dangerItem : ""].join(" ")}
      onSelect={onSelect}
      disabled={disabled}
    >
      <span className={styles.menuIcon}>{icon}</span>
      <span className={styles.menuText}>
        {children}
        {detail !== undefined && <small>{detail}</small>}
      </span>
      {keys !== null && <Keys keys={keys} />}
    </DropdownMenu.Item>
  );
}

interface MenuChoiceProps {
  value: string;
  onChange(value: string): void;
  choices: readonly { value: string; label: string; detail?: string | undefined }[];
}

/** One of several, the chosen one ticked. */
export function MenuChoice({ value, onChange, choices }: MenuChoiceProps) {
  return (
    <DropdownMenu.RadioGroup value={value} onValueChange={onChange}>
      {choices.map((choice) => (
        <DropdownMenu.RadioItem key={choice.value} value={choice.value} className={styles.menuItem}>
          <span className={styles.menuIcon}>
            <DropdownMenu.ItemIndicator>
              <Check size={15} />
            </DropdownMenu.ItemIndicator>
          </span>
          <span className={styles.menuText}>
            {choice.label}
            {choice.detail !== undefined && <small>{choice.detail}</small>}
          </span>
        </DropdownMenu.RadioItem>
      ))}
    </DropdownMenu.RadioGroup>
  );
}

export const MenuLabel = ({ children }: { children: ReactNode }) => (
  <DropdownMenu.Label className={styles.menuLabel}>{children}</DropdownMenu.Label>
);

export const MenuLine = () => <DropdownMenu.Separator className={styles.menuLine} />;
