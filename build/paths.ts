import { join } from "node:path";

/** The repository's root. */
export const root: string = join(import.meta.dirname, "..");

export const nativeBuildDir: string = join(root, "native", "build");
export const addonPath: string = join(nativeBuildDir, "Release", "scholia.node");

/** The desktop app's folder as it is packaged: it is laid out like the repository (host/places.ts). */
export const appDist: string = join(root, "dist");

/** What the shells serve as the window. */
export const rendererDist: string = join(appDist, "renderer");

/** The desktop app's main process and preload script. */
export const electronAppDist: string = join(appDist, "electron");

/** The host and the processes that it starts. */
export const hostDist: string = join(appDist, "host");

/** Packaged apps and installers. */
export const releaseDir: string = join(root, "release");
