// The app as it is shipped, but for the age of its Electron: the window, the host in a utility process, the
// addon and the host's own children, all out of the package.
import { readdir, readFile, readlink } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { FuseV1Options, getCurrentFuseWire } from "@electron/fuses";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { setUpElectron } from "../../build/electronDist.ts";
import { setUpHostBundle } from "../../build/hostBundle.ts";
import { packageApp } from "../../build/package.ts";
import { hostDist, root } from "../../build/paths.ts";
import { startHost } from "../../host/process.ts";
import { pdfOf, textWith } from "./madeUpDocuments.ts";
import { type PackagedApp, startPackaged } from "./packagedApp.ts";
import { usePlace } from "./scholia.ts";

vi.setConfig({ testTimeout: 120_000 });

const place = usePlace();
let program: string;
let app: PackagedApp | null = null;

beforeAll(async () => {
  program = await packageApp(await setUpElectron(), {
    folder: join(place.folder, "release"),
    installers: false,
  });
  const host = startHost({ dataDir: place.data });
  const settings = { model: "smollm2-135m", threads: 1, maxTokens: 24 };
  expect(await host.client.request("settings.set", settings)).toMatchObject({ ok: true });
  await host.close();
});

afterAll(() => app?.close());

describe("the packaged app", () => {
  test("has its fuses set", async () => {
    const wire = await getCurrentFuseWire(program);
    const [off, on] = [48, 49];
    expect(wire).toMatchObject({
      [FuseV1Options.EnableCookieEncryption]: on,
      [FuseV1Options.EnableNodeOptionsEnvironmentVariable]: off,
      [FuseV1Options.EnableNodeCliInspectArguments]: off,
      [FuseV1Options.OnlyLoadAppFromAsar]: on,
    });
  });

  test("opens the document of its command line, reads it and answers from it", async () => {
    const texts = [textWith(["The door code of Ida's boathouse is 48213."], 120)];
    const document = await place.write("boathouse.pdf", pdfOf(texts));
    app = await startPackaged({
      program,
      data: place.data,
      profile: join(place.folder, "profile"),
      files: [document],
    });
    const { window } = app;
    await window
      .getByRole("region", { name: "Page 1", exact: true })
      .locator("canvas:not([width='0'])")
      .waitFor();
    await window.getByRole("button", { name: /^Read [\d,]+ tokens$/ }).click();
    await window.getByText(/1 page · read/).waitFor();
    await window.locator("#composer").fill("What is the door code of Ida's boathouse?");
    await window.keyboard.press("Enter");
    const chat = window.getByRole("region", { name: "Chat", exact: true });
    await chat.getByText(/tokens · pages? 1 of 1/).waitFor();
    expect(
      (await chat.locator("article [data-sentence]").first().innerText()).length,
    ).toBeGreaterThan(5);
  });

  test("fetches the parts of the window that it shows later", async () => {
    const { window } = app!;
    window.setDefaultTimeout(15_000);
    await window.keyboard.press("Control+,");
    const settings = window.getByRole("dialog");
    await settings.getByRole("tab", { name: "Models" }).waitFor();
    await window.keyboard.press("Escape");
    await settings.waitFor({ state: "detached" });
    await window.keyboard.press("Control+Shift+2");
    await window.getByRole("img", { name: /^Memory: .*Weights/i }).waitFor();
  });

  test("has its host in a process of its own program, on its own libraries", async () => {
    const state = (await app!.window.evaluate(`window.scholia.call("shell.state", {})`)) as {
      value: { host: { pid: number } };
    };
    const { pid } = state.value.host;
    expect(await readlink(`/proc/${pid}/exe`)).toBe(program);
    const files = (await readFile(`/proc/${pid}/maps`, "utf8"))
      .split("\n")
      .flatMap((line) => /\S*(?:libllama|libggml|scholia\.node|sqlite)\S*/.exec(line)?.[0] ?? []);
    const libraries = [...new Set(files)].map((file) => relative(dirname(program), file));
    expect(libraries.length).toBeGreaterThanOrEqual(6);
    for (const file of libraries) expect(file).toMatch(/^resources\/app\.asar\.unpacked\/native\//);
  });

  test("has a host that runs without additions on the Node of the Electron that ships", async () => {
    const { devDependencies } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
    await setUpHostBundle(devDependencies.electron);
    expect(await readdir(hostDist)).not.toContain("olderNode.cjs");
    const host = startHost({
      dataDir: join(place.folder, "other"),
      entry: join(hostDist, "main.cjs"),
    });
    const path = await place.write("two.pdf", pdfOf(["The first page.", "The second page."]));
    const added = await host.client.request("documents.add", { path });
    if (!added.ok) throw new Error(added.error.message);
    const documentId = added.value.id;
    const opened = await host.client.open("document.open", { documentId }).result();
    expect(opened).toMatchObject({ ok: true, value: { pages: [{}, { status: "text" }] } });
    const page = { documentId, page: 2, width: 300 };
    expect(await host.client.request("document.picture", page)).toMatchObject({ ok: true });
    const heads = await host.client.request("heads.list", { model: "smollm2-135m" });
    expect(heads).toMatchObject({ ok: true, value: { profile: "smollm2-135m" } });
    await host.close();
  });
});
