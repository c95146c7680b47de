// The host for a packaged app: its process and those that it starts, each a file of one folder.
import { copyFile, mkdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { makeFolder } from "./madeFolder.ts";
import { bundleForNode, hashSources, ownPlace } from "./nodeBundle.ts";
import { hostDist, root } from "./paths.ts";

const entries = {
  main: "host/main.ts",
  readProcess: "host/document/readProcess.ts",
  pictureProcess: "host/document/pdf/pictureProcess.ts",
  probeModelChild: "host/engine/probeModelChild.ts",
};

/** The first Electron with a Node that the host was written for (24). */
const firstElectron = 38;

const pdfiumWasm = createRequire(import.meta.url).resolve("@embedpdf/pdfium/pdfium.wasm");
const pdfiumLicense = join(dirname(pdfiumWasm), "..", "LICENSE.pdfium");

/** Bundles the host for an Electron. What an older one than Scholia ships (in tests) lacks is put in. */
export function setUpHostBundle(electronVersion: string): Promise<void> {
  const isOlder = Number.parseInt(electronVersion, 10) < firstElectron;
  const sources = ["host", "contract", "models/catalog.json", "build/hostBundle.ts"];
  const additions = ["build/olderNode.cjs", "build/packagedSqlite.cjs"];
  return makeFolder({
    folder: hostDist,
    hash: hashSources([...sources, ...additions], String(isOlder)),
    what: "Bundling the host",
    async fill(folder) {
      await mkdir(folder, { recursive: true });
      await copyFile(pdfiumWasm, join(folder, "pdfium.wasm"));
      await copyFile(pdfiumLicense, join(folder, "LICENSE.pdfium"));
      if (isOlder) await copyFile(join(root, "build/olderNode.cjs"), join(folder, "olderNode.cjs"));
      await bundleForNode({
        entries,
        folder,
        intro: isOlder ? `require("./olderNode.cjs");\n${ownPlace}` : ownPlace,
        // It looks for SQLite's addon in folders of npm's packages.
        instead: { "node-gyp-build": join(root, "build/packagedSqlite.cjs") },
      });
    },
  });
}
