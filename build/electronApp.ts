// The desktop app's own files: main process and preload script, each one CommonJS file, since a
// sandboxed preload can be nothing else and an Electron in tests starts nothing else.
import { readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { join } from "node:path";
import { build, type InlineConfig } from "vite";
import { electronAppDist, root } from "./paths.ts";
import { step } from "./report.js";
import { hashFiles, isStamped, writeStamp } from "./stamp.ts";

const stampPath = join(electronAppDist, "stamp");

const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
  version: string;
};

/** One CommonJS file from a source and all that it imports, for the Node of Electron 22, the oldest that
 * the tests run. */
export const nodeBundle = (entry: string, name: string, outDir: string): InlineConfig => ({
  configFile: false,
  root,
  logLevel: "warn",
  build: {
    outDir,
    emptyOutDir: false,
    target: "node16",
    minify: false,
    sourcemap: true,
    lib: { entry: join(root, entry), formats: ["cjs"], fileName: () => name },
    rolldownOptions: {
      external: ["electron", /^node:/, ...builtinModules],
      // Only the host's own process asks where its sources are; here it is told.
      transform: { define: { "import.meta": "{}" } },
    },
  },
  define: { scholiaVersion: JSON.stringify(version) },
});

/** Bundles the desktop app unless its files were made from just these sources. */
export async function setUpElectronApp(): Promise<void> {
  const sources = ["electron", "contract", "host", "build/electronApp.ts", "package-lock.json"];
  const hash = hashFiles(
    sources.map((name) => join(root, name)),
    root,
  );
  if (isStamped(stampPath, hash)) return;
  await step("Bundling the desktop app", async () => {
    await build(nodeBundle("electron/main/main.ts", "main.cjs", electronAppDist));
    await build(nodeBundle("electron/preload/preload.ts", "preload.cjs", electronAppDist));
    writeStamp(stampPath, hash);
  });
}
