import type { MemoryNode } from "../../../contract/memory.ts";
import { formatBytes, formatCount, formatPercent } from "../../format.ts";
import { t } from "../../strings/index.ts";
import { ScrollRegion } from "../../ui/ScrollRegion.tsx";
import lens from "../lens/lens.module.css";

/** The parts of a node as numbers. */
export function MemoryTable({ root, onOpen }: { root: MemoryNode; onOpen(name: string): void }) {
  return (
    <ScrollRegion className={lens.tableFrame} label={t("memory.asTable")}>
      <table className={lens.table}>
        <thead>
          <tr>
            <th scope="col">{t("memory.part")}</th>
            <th scope="col">{t("memory.size")}</th>
            <th scope="col">{t("memory.bytes")}</th>
            <th scope="col">{t("memory.share")}</th>
          </tr>
        </thead>
        <tbody>
          {(root.children ?? []).map(({ name, bytes, children }) => (
            <tr key={name}>
              <th scope="row">
                {children === undefined ? (
                  name
                ) : (
                  <button type="button" onClick={() => onOpen(name)}>
                    {name} ▸
                  </button>
                )}
              </th>
              <td>{formatBytes(bytes)}</td>
              <td>{formatCount(bytes)}</td>
              <td>{formatPercent(bytes / (root.bytes || 1))}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </ScrollRegion>
  );
}
