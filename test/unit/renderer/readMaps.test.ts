import { expect, test, vi } from "vitest";
import type { ReadMap } from "../../../contract/chats.ts";
import type { Shell } from "../../../contract/shell.ts";
import type { Port, ToHost } from "../../../contract/wire.ts";
import { createApp } from "../../../renderer/store/app.ts";

const map: ReadMap = {
  documentTokens: 1,
  pages: [],
  bins: 1,
  whole: new Float32Array(1),
  sentences: [],
  heads: null,
};

/** A shell whose host knows read maps and nothing else; the turns that were asked for are noted. */
function shellOf(asked: string[]): Shell {
  const connect = async () => {
    let tell: (message: unknown) => void = () => {};
    const port: Port = {
      post(message) {
        const request = message as ToHost;
        if (request.kind !== "request" || request.route !== "chat.readMap") return;
        asked.push((request.input as { turnId: string }).turnId);
        tell({ kind: "result", id: request.id, result: { ok: true, value: map } });
      },
      onMessage: (listener) => {
        tell = listener;
      },
      onClose: () => {},
      close: () => {},
    };
    return { ok: true as const, value: port };
  };
  return {
    kind: "browser",
    connect,
    call: async () => ({ ok: false, error: { code: "not_allowed", message: "none" } }),
    addFiles: async () => ({ ok: false, error: { code: "not_allowed", message: "none" } }),
    onEvent: () => () => {},
  };
}

test("of all the answers that were looked at, the window holds the last read maps", async () => {
  const asked: string[] = [];
  const store = createApp(shellOf(asked));
  store.getState().connect();
  await vi.waitUntil(() => store.getState().connection === "ready");
  const held = () => Object.keys(store.getState().readMaps);
  for (let turn = 0; turn < 200; turn++) {
    store.getState().focusOn(`turn ${turn}`);
    await vi.waitUntil(() => held().includes(`turn ${turn}`));
    expect(held().length).toBeLessThanOrEqual(16);
  }
  expect(held()).toHaveLength(16);
  store.getState().focusOn("turn 199");
  store.getState().focusOn("turn 3");
  await vi.waitUntil(() => held().includes("turn 3"));
  // One that is held is not asked for again.
  expect(asked).toHaveLength(201);
});
