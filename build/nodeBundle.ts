// Node's side of the desktop app as CommonJS files: a sandboxed preload script can be nothing else, and an
// Electron in the tests starts nothing else.
import { readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { join } from "node:path";
import { build } from "vite";
import { root } from "./paths.ts";
import { hashFiles } from "./stamp.ts";

export const { version }: { version: string } = JSON.parse(
  readFileSync(join(root, "package.json"), "utf8"),
);

export interface NodeBundle {
  /** Sources by the names of the files that they and what they import become. */
  entries: Record<string, string>;
  folder: string;
  /** Modules that others take the place of. */
  instead?: Record<string, string>;
  /** What each file begins with. */
  intro?: string;
}

/** Bundles for the Node of Electron 22, the oldest that the tests run. */
export async function bundleForNode(bundle: NodeBundle): Promise<void> {
  const sources = Object.entries(bundle.entries).map(([name, path]) => [name, join(root, path)]);
  await build({
    configFile: false,
    root,
    logLevel: "warn",
    build: {
      ssr: true,
      outDir: bundle.folder,
      emptyOutDir: false,
      target: "node16",
      minify: false,
      sourcemap: true,
      license: { fileName: `LICENSES.${Object.keys(bundle.entries)[0]}.md` },
      rolldownOptions: {
        input: Object.fromEntries(sources),
        external: ["electron", /^node:/, ...builtinModules],
        output: {
          format: "cjs",
          entryFileNames: "[name].cjs",
          chunkFileNames: "[name]-[hash].cjs",
          intro: bundle.intro ?? "",
        },
        transform: { define: { "import.meta.url": "thisFile", scholiaIsBundled: "true" } },
      },
    },
    define: { scholiaVersion: JSON.stringify(version) },
    ssr: { noExternal: true, target: "node" },
    resolve: { alias: bundle.instead ?? {} },
  });
}

/** An intro for sources that ask where they lie: CommonJS has no `import.meta.url`. */
export const ownPlace = `const thisFile = require("node:url").pathToFileURL(__filename).href;`;

/** What a bundle was made from. */
export const hashSources = (paths: readonly string[], ...more: string[]): string =>
  hashFiles(
    [...paths, "build/nodeBundle.ts", "package-lock.json"].map((path) => join(root, path)),
    root,
    more,
  );
