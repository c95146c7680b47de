/** Where the host's own files lie. The bundled host lies in a folder that is laid out like the repository
 * (build/desktopApp.ts), so the same paths lead to them. */
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Put in when the host is bundled. */
declare const scholiaIsBundled: boolean | undefined;

export const isBundled: boolean = typeof scholiaIsBundled !== "undefined";

const root = fileURLToPath(new URL("..", import.meta.url));

/** @param path from the root of the repository */
export const ownFile = (path: string): string => join(root, path);

/** A file that the system's loader opens: it knows nothing of Electron's archive, so the file lies beside
 * it. */
export const unpackedFile = (path: string): string =>
  ownFile(path).replace(/app\.asar(?=[/\\])/, "app.asar.unpacked");

/** The script of a process: as it is, or bundled into one folder. */
export const processFile = (path: string): string =>
  ownFile(isBundled ? `host/${basename(path, ".ts")}.cjs` : path);

/** For a process that runs such a script: inside Electron the executable is Electron. */
export const processEnvironment = (): NodeJS.ProcessEnv => ({
  ...process.env,
  ELECTRON_RUN_AS_NODE: "1",
});

export const packageFile: string = ownFile("package.json");
