import { join } from "node:path";

/** The repository's root. */
export const root: string = join(import.meta.dirname, "..");

export const nativeBuildDir: string = join(root, "native", "build");
export const addonPath: string = join(nativeBuildDir, "Release", "scholia.node");

/** What the shells serve as the window. */
export const rendererDist: string = join(root, "dist", "renderer");

/** The desktop app's main process and preload script. */
export const electronAppDist: string = join(root, "dist", "electron");
