import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { AfterPackContext, Configuration } from "electron-builder";
import { documentTypes } from "../host/document/documentTypes.ts";
import { appDist, root } from "./paths.ts";

export interface PackageInput {
  /** A runnable Electron's folder, and which it is. */
  electronDist: string;
  electronVersion: string;
  /** Where the app's folder and the installers go. */
  folder: string;
  /** Called with the packaged program. */
  onPacked: (program: string) => void;
}

/** What electron-builder is told (electron.build/configuration). It fetches nothing for the app's folder. */
export const packageConfiguration = (input: PackageInput): Configuration => ({
  appId: "scholia.desktop",
  productName: "Scholia",
  copyright: "MIT licence",
  directories: { app: appDist, output: input.folder, buildResources: join(root, "build", "icons") },
  electronDist: input.electronDist,
  electronVersion: input.electronVersion,
  files: [
    "package.json",
    "{electron,host,renderer,models,sample,native}/**",
    "!**/{stamp,*.map}",
    // Everything is bundled: there are no packages to bring, to install or to build.
    "!**/node_modules/**",
  ],
  asar: true,
  // What is opened by the system's loader can't lie in the archive.
  asarUnpack: ["native/**"],
  npmRebuild: false,
  nodeGypRebuild: false,
  electronFuses: hasLaterFuses(input.electronVersion) ? { ...fuses, ...laterFuses } : fuses,
  fileAssociations: documentTypes.map(({ name, mimeType, extensions }) => ({
    name,
    description: name,
    mimeType,
    ext: [...extensions],
    role: "Viewer" as const,
    // Offered beside what a person has chosen for these files, not in its place.
    rank: "Alternate" as const,
  })),
  linux: {
    target: ["AppImage", "deb"],
    executableName: "scholia",
    category: "Office",
    synopsis: "Ask a whole document",
    maintainer: "The authors of Scholia",
  },
  mac: { target: ["dmg"], category: "public.app-category.productivity" },
  win: { target: ["nsis"] },
  afterPack: async (context) => {
    await tidy(context);
    input.onPacked(programOf(context));
  },
});

/** Electron's switches that are burnt into its program. */
const fuses = {
  // The host's children (parser, page painter, model probe) are this program, run as Node.
  runAsNode: true,
  enableCookieEncryption: true,
  enableNodeOptionsEnvironmentVariable: false,
  enableNodeCliInspectArguments: false,
  onlyLoadAppFromAsar: true,
} as const;

/** Electron has this one from 29 on. */
const laterFuses = { grantFileProtocolExtraPrivileges: false } as const;

const hasLaterFuses = (electronVersion: string): boolean =>
  Number.parseInt(electronVersion, 10) >= 29;

/** Electron's own distribution brings an app that runs others. */
async function tidy({ appOutDir, packager }: AfterPackContext): Promise<void> {
  await rm(join(packager.getResourcesDir(appOutDir), "default_app.asar"), { force: true });
}

function programOf({ appOutDir, packager, electronPlatformName }: AfterPackContext): string {
  const { productFilename } = packager.appInfo;
  if (electronPlatformName === "darwin")
    return join(appOutDir, `${productFilename}.app`, "Contents", "MacOS", productFilename);
  return join(appOutDir, electronPlatformName === "win32" ? `${productFilename}.exe` : "scholia");
}
