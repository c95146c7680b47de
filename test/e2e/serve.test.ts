import { existsSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { setUpRenderer } from "../../build/renderer.ts";
import { hostOf, type Running, small, until, usePlace } from "./scholia.ts";

const place = usePlace();
beforeAll(() => setUpRenderer());

async function addressOf(running: Running): Promise<{ url: string; port: number }> {
  const line = await until(() => (running.out().includes("\n") ? running.out() : undefined), 60);
  const said = JSON.parse(line) as { url: string; port: number };
  expect(said, line).toHaveProperty("url");
  return said;
}

describe("scholia serve", () => {
  test("serves the window to whoever has its address, until Ctrl+C", async () => {
    const running = place.start(["serve", "--json", ...small]);
    const { url, port } = await addressOf(running);
    expect(new URL(url).hostname).toBe("127.0.0.1");
    const root = `http://127.0.0.1:${port}/`;
    expect((await fetch(root)).status).toBe(401);
    const first = await fetch(url, { redirect: "manual" });
    const cookie = first.headers.get("set-cookie")!.split(";")[0]!;
    const index = await (await fetch(root, { headers: { cookie } })).text();
    const script = /src="\.\/(assets\/[^"]+\.js)"/.exec(index)?.[1];
    expect((await fetch(root + script, { headers: { cookie } })).status).toBe(200);
    const state = await fetch(`${root}shell/state`, { headers: { cookie } });
    expect(await state.json()).toMatchObject({
      ok: true,
      value: { kind: "browser", host: { state: "running" } },
    });

    const taken = await place.run(["serve", "--port", String(port)]);
    expect(taken.code).toBe(2);
    expect(taken.err).toContain(`Port ${port} is taken.`);

    const host = await hostOf(running);
    running.signal("SIGINT");
    const { code, err } = await running.finished;
    expect(code, err).toBe(0);
    expect(existsSync(`/proc/${host}`)).toBe(false);
  });

  test("keeps a model that was named as the window's", async () => {
    const { openLibrary } = await import("../../host/store/library.ts");
    const library = await openLibrary(place.data);
    expect(library.settings.get()).toMatchObject({ model: "smollm2-135m", threads: 1 });
    library.close();
  });
});
