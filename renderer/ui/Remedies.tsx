import type { ErrorCode, ErrorValue } from "../../contract/errors.ts";
import { useAppStore } from "../store/app.ts";
import type { App } from "../store/state.ts";
import { t } from "../strings/index.ts";
import { Button } from "./Button.tsx";

interface Remedy {
  label: string;
  run(app: App): void;
}

/** What can be done about an error, with a button that does it. */
export function Remedies({ error }: { error: ErrorValue }) {
  const store = useAppStore();
  return remediesOf(error.code).map(({ label, run }) => (
    <Button key={label} onClick={() => run(store.getState())}>
      {label}
    </Button>
  ));
}

const chooseModel: Remedy = { label: t("remedy.model"), run: (app) => app.openSettings("models") };
const diagnose: Remedy = {
  label: t("remedy.diagnose"),
  run: (app) => app.openSettings("diagnostics"),
};
const restart: Remedy = { label: t("remedy.restart"), run: (app) => app.connect() };
const makeRoom: Remedy = { label: t("remedy.room"), run: (app) => app.openSettings("storage") };
const locate: Remedy = {
  label: t("remedy.locate"),
  run: (app) => {
    if (app.document !== null) void app.locateDocument(app.document.id);
  },
};
const reopen: Remedy = { label: t("remedy.retry"), run: (app) => app.reopenDocument() };
const choosePages: Remedy = {
  label: t("remedy.pages"),
  run: (app) => {
    app.newChat();
    void app.countPreflight();
  },
};

const removeDocument: Remedy = {
  label: t("library.remove"),
  run: (app) => {
    if (app.document !== null) void app.removeDocument(app.document.id);
  },
};

function remediesOf(code: ErrorCode): Remedy[] {
  switch (code) {
    case "engine_lost":
      return [restart, diagnose];
    case "context_exceeded":
      return [choosePages, chooseModel];
    case "out_of_memory":
      return [choosePages, chooseModel, diagnose];
    case "disk_full":
      return [makeRoom];
    case "model_not_found":
    case "model_broken":
    case "model_unsupported":
    case "model_unknown":
    case "checksum_mismatch":
    case "download_failed":
    case "profile_mismatch":
    case "profile_broken":
      return [chooseModel];
    case "document_not_found":
      return [locate, removeDocument];
    case "document_binary":
    case "document_broken":
    case "document_empty":
    case "document_encrypted":
    case "document_no_text":
    case "document_too_large":
    case "document_unsupported":
      return [removeDocument];
    case "document_timeout":
    case "read_broken":
      return [reopen];
    case "device_unavailable":
    case "internal":
    case "library_broken":
      return [diagnose];
    default:
      return [];
  }
}
