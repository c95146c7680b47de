import { Pin, PinOff, Trash2 } from "lucide-react";
import type { ReadEntry } from "../../../contract/documents.ts";
import { formatAgo, formatBytes, formatCount } from "../../format.ts";
import { useApp } from "../../store/app.ts";
import { t } from "../../strings/index.ts";
import { IconButton } from "../../ui/Button.tsx";
import lens from "../lens/lens.module.css";
import { NumberField } from "./Field.tsx";
import styles from "./settings.module.css";

/** What was read and lies on the disk. */
export function StoragePanel() {
  const store = useApp((app) => app.readStore);
  const limit = useApp((app) => app.settings.diskLimitBytes);
  const change = useApp((app) => app.changeSettings);
  return (
    <>
      <NumberField
        label={t("storage.limit")}
        hint={t("storage.limitHint")}
        value={limit === null ? 0 : limit / 1e9}
        least={0}
        most={1e6}
        step={0.1}
        onChange={(gigabytes) =>
          void change({ diskLimitBytes: gigabytes === 0 ? null : Math.round(gigabytes * 1e9) })
        }
      />
      {store !== null && (
        <p className={styles.hint}>
          {t("storage.summary", {
            bytes: formatBytes(store.bytes),
            free: formatBytes(store.freeBytes),
          })}
          <br />
          <code>{store.folder}</code>
        </p>
      )}
      {store !== null && store.reads.length > 0 && <Reads reads={store.reads} />}
    </>
  );
}

function Reads({ reads }: { reads: readonly ReadEntry[] }) {
  return (
    <div className={styles.tableFrame}>
      <table className={lens.table}>
        <thead>
          <tr>
            <th scope="col">{t("storage.document")}</th>
            <th scope="col">{t("storage.model")}</th>
            <th scope="col">{t("storage.tokens")}</th>
            <th scope="col">{t("storage.size")}</th>
            <th scope="col">{t("storage.lastUse")}</th>
            <th scope="col">
              <span className="visuallyHidden">{t("storage.actions")}</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {reads.map((read) => (
            <Read key={read.key} read={read} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Read({ read }: { read: ReadEntry }) {
  const pin = useApp((app) => app.pinRead);
  const remove = useApp((app) => app.removeRead);
  const title = read.documentTitle;
  return (
    <tr>
      <th scope="row" className={styles.wrap}>
        {title}
      </th>
      <td className={styles.wrap}>{read.model.name}</td>
      <td>
        {read.complete
          ? formatCount(read.tokens)
          : t("storage.part", {
              stored: formatCount(read.storedTokens),
              tokens: formatCount(read.tokens),
            })}
      </td>
      <td>{formatBytes(read.bytes)}</td>
      <td>{formatAgo(read.lastUse)}</td>
      <td>
        <IconButton
          label={t(read.pinned ? "storage.unpin" : "storage.pin", { title })}
          icon={read.pinned ? <PinOff size={15} /> : <Pin size={15} />}
          aria-pressed={read.pinned}
          onClick={() => void pin(read.key, !read.pinned)}
        />
        <IconButton
          label={t("storage.remove", { title })}
          icon={<Trash2 size={15} />}
          onClick={() => void remove(read.key)}
        />
      </td>
    </tr>
  );
}
