import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { withLock } from "../host/models/lock.ts";
import { isNativeBuilt, needNativeTools, setUpNative } from "./native.ts";
import { arePackagesInstalled, installPackages } from "./packages.ts";
import { nativeBuildDir, root } from "./paths.ts";
import { say } from "./report.js";

/** What every command needs: npm packages, the native libraries and the addon. Does nothing when all
 * of it is there and new; two commands that begin at once do not get in each other's way. */
export async function setUp(): Promise<void> {
  if (arePackagesInstalled(root) && isNativeBuilt()) return;
  needNativeTools();
  await mkdir(nativeBuildDir, { recursive: true });
  const install = async () => {
    await installPackages();
    await setUpNative();
  };
  const onWait = () => say("another command is setting Scholia up; waiting for it …");
  await withLock(join(nativeBuildDir, "set-up.lock"), install, { onWait });
}
