// The desktop app's own files: main process and preload script.

import { makeFolder } from "./madeFolder.ts";
import { bundleForNode, hashSources, ownPlace } from "./nodeBundle.ts";
import { electronAppDist } from "./paths.ts";

/** Bundles main process and preload script, which together are an app once there is a window. */
export const setUpElectronApp = (): Promise<void> =>
  makeFolder({
    folder: electronAppDist,
    hash: hashSources(["electron", "contract", "host", "build/electronApp.ts"]),
    what: "Bundling the desktop app",
    async fill(folder) {
      await bundleForNode({ entries: { main: "electron/main/main.ts" }, folder, intro: ownPlace });
      // By itself: a sandboxed script can't load a part that it shares with another.
      await bundleForNode({ entries: { preload: "electron/preload/preload.ts" }, folder });
    },
  });
