/** The shell in a browser: one WebSocket to the loopback server, and what a page can do by itself. */
import { decodeMessage, encodeMessage } from "../../contract/codec.ts";
import type { ErrorValue, Result } from "../../contract/errors.ts";
import {
  type AddedDocuments,
  closeCodes,
  lensHash,
  type Shell,
  type ShellAction,
  type ShellEvent,
  type ShellInput,
  type ShellOutputs,
  type ShellState,
  webPaths,
} from "../../contract/shell.ts";
import type { Port } from "../../contract/wire.ts";

const serverGone: ErrorValue = {
  code: "engine_lost",
  message:
    "Scholia's server does not answer. What was saved is kept: start it again (scholia serve) and reload.",
};

type Actions = {
  [A in ShellAction]: (input: ShellInput<A>) => Promise<Result<ShellOutputs[A]>>;
};

export function browserShell(): Shell {
  const listeners = new Set<(event: ShellEvent) => void>();
  const tell = (event: ShellEvent) => {
    for (const listener of listeners) listener(event);
  };
  const connect = async (): Promise<Result<Port>> => {
    const socket = await openSocket();
    if (socket === null) return { ok: false, error: serverGone };
    socket.addEventListener("close", ({ code }) => void reportLoss(code, tell));
    return { ok: true, value: portOf(socket) };
  };
  return {
    kind: "browser",
    connect,
    call: (action, input) => actions[action](input),
    addFiles: (files) => upload(files as File[]),
    onEvent(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

const actions: Actions = {
  "shell.state": async () => {
    const reply = await ask<ShellState>(webPaths.state);
    return reply;
  },
  "documents.choose": async () => upload(await chooseFiles(true)),
  "documents.drop": async () => notHere("A browser does not know the paths of dropped files."),
  "documents.locate": async ({ documentId }) => {
    const reply = await upload(await chooseFiles(false));
    if (!reply.ok) return reply;
    const found = reply.value.added.find(({ id }) => id === documentId);
    const [refused] = reply.value.refused;
    if (refused !== undefined) return { ok: false, error: refused.error };
    return { ok: true, value: found ?? null };
  },
  "models.choose": async () =>
    notHere("A browser can't open model files of the machine: scholia serve --model FILE does."),
  "file.save": async ({ name, content }) => {
    save(name, content as string | Uint8Array<ArrayBuffer>);
    return { ok: true, value: null };
  },
  "link.open": async ({ url }) => {
    if (!/^https?:$/.test(new URL(url).protocol)) return notHere("Only web addresses are opened.");
    window.open(url, "_blank", "noopener,noreferrer");
    return { ok: true, value: null };
  },
  "host.restart": () => ask<null>(webPaths.restart, { method: "POST" }),
  "host.connect": async () => notHere("A browser talks to the host over its WebSocket."),
  "window.open": async ({ shows }) => {
    const address = new URL(location.href);
    address.hash = shows === "lens" ? lensHash : "";
    window.open(address, "_blank", "noopener");
    return { ok: true, value: null };
  },
  "theme.set": async () => ({ ok: true, value: null }),
};

function notHere(message: string): { ok: false; error: ErrorValue } {
  return { ok: false, error: { code: "not_allowed", message } };
}

/** @returns null when the server does not answer. */
function openSocket(): Promise<WebSocket | null> {
  const address = new URL(webPaths.host, location.href);
  address.protocol = "ws:";
  address.search = "";
  address.hash = "";
  const socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  return new Promise((resolve) => {
    socket.addEventListener("open", () => resolve(socket), { once: true });
    socket.addEventListener("close", () => resolve(null), { once: true });
  });
}

function portOf(socket: WebSocket): Port {
  return {
    post(message) {
      if (socket.readyState !== WebSocket.OPEN) return;
      socket.send(encodeMessage(message) as string | Uint8Array<ArrayBuffer>);
    },
    onMessage(listener) {
      socket.addEventListener("message", ({ data }: MessageEvent<string | ArrayBuffer>) =>
        listener(decodeMessage(typeof data === "string" ? data : new Uint8Array(data))),
      );
    },
    onClose: (listener) => socket.addEventListener("close", () => listener(), { once: true }),
    close: () => socket.close(),
  };
}

/** Why a socket closed: the host's own words, where the server still has them. */
async function reportLoss(code: number, tell: (event: ShellEvent) => void) {
  const state = code === closeCodes.hostGone ? await ask<ShellState>(webPaths.state) : null;
  const host = state?.ok === true ? state.value.host : null;
  tell({
    kind: "host",
    host: host?.state === "exited" ? host : { state: "exited", error: serverGone },
  });
}

async function ask<Value>(path: string, init: RequestInit = {}): Promise<Result<Value>> {
  try {
    const reply = await fetch(new URL(path, location.href), { ...init, redirect: "error" });
    return (await reply.json()) as Result<Value>;
  } catch {
    return { ok: false, error: serverGone };
  }
}

/** Files enter the library one after the other; one that is refused keeps no other out. */
async function upload(files: File[]): Promise<Result<AddedDocuments>> {
  const all: AddedDocuments = { added: [], refused: [] };
  for (const file of files) {
    const path = `${webPaths.documents}?name=${encodeURIComponent(file.name)}`;
    const reply = await ask<AddedDocuments>(path, { method: "POST", body: file });
    if (reply.ok) {
      all.added.push(...reply.value.added);
      all.refused.push(...reply.value.refused);
    } else {
      all.refused.push({ name: file.name, error: reply.error });
    }
  }
  return { ok: true, value: all };
}

/** @returns no files when the dialog was closed */
function chooseFiles(multiple: boolean): Promise<File[]> {
  const input = document.createElement("input");
  input.type = "file";
  input.multiple = multiple;
  input.accept = ".pdf,.md,.markdown,.txt,.text,text/*,application/pdf";
  return new Promise((resolve) => {
    input.addEventListener("change", () => resolve([...(input.files ?? [])]), { once: true });
    input.addEventListener("cancel", () => resolve([]), { once: true });
    input.click();
  });
}

function save(name: string, content: string | Uint8Array<ArrayBuffer>) {
  const url = URL.createObjectURL(new Blob([content]));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // The browser has taken it when the click is over; a moment more costs nothing.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
