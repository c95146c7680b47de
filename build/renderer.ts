// The window's files: React and TypeScript in renderer/, bundled by vite for Chrome 108, the oldest
// that an Electron in the tests brings.
import { join } from "node:path";
import { build, type InlineConfig } from "vite";
import { makeFolder } from "./madeFolder.ts";
import { rendererDist, root } from "./paths.ts";
import { fail } from "./report.js";
import { hashFiles } from "./stamp.ts";

const viteConfig = (outDir: string): InlineConfig => ({
  configFile: false,
  root: join(root, "renderer"),
  // Both shells serve the files from the root of an origin of their own; relative paths do for both.
  base: "./",
  logLevel: "warn",
  css: { modules: { localsConvention: "camelCaseOnly" } },
  build: {
    outDir,
    emptyOutDir: true,
    target: "chrome108",
    cssTarget: "chrome108",
    // The content policy allows files of the origin only, so nothing becomes a data: address.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: true,
    license: { fileName: "LICENSES.window.md" },
    chunkSizeWarningLimit: 2500,
    rolldownOptions: {
      // "use client" in libraries means something to servers only.
      onwarn: (warning, warn) => warning.code === "MODULE_LEVEL_DIRECTIVE" || warn(warning),
    },
  },
});

const hashSources = (): string =>
  hashFiles(
    ["renderer", "contract", "build/renderer.ts", "package-lock.json"].map((name) =>
      join(root, name),
    ),
    root,
  );

/** Bundles the window unless its files were made from just these sources. */
export const setUpRenderer = (): Promise<void> =>
  makeFolder({
    folder: rendererDist,
    hash: hashSources(),
    what: "Bundling the window",
    fill: (folder) => inProduction(() => build(viteConfig(folder))),
  });

/** Vite goes by this variable, and a test runner has set it: whoever bundles gets the window that ships. */
async function inProduction(work: () => Promise<unknown>): Promise<void> {
  const before = process.env.NODE_ENV;
  process.env.NODE_ENV = "production";
  await work();
  if (before === undefined) delete process.env.NODE_ENV;
  else process.env.NODE_ENV = before;
}

// `npm run window`: the bundle and nothing else.
if (process.argv[1] === import.meta.filename) await setUpRenderer().catch(fail);
