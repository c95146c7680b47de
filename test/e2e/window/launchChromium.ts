import { type Browser, chromium } from "playwright-core";
import { findProgram } from "../../../build/tools.ts";
import type { RefusingProxy } from "../refusingProxy.ts";

/** Chromium, whose way to other machines leads into the proxy. */
export async function launchChromium(proxy: RefusingProxy, args: string[] = []): Promise<Browser> {
  const executablePath = findProgram("chromium", "chromium-browser", "google-chrome");
  if (executablePath === undefined)
    throw new Error("no Chromium here (Debian, Ubuntu: apt-get install chromium)");
  return chromium.launch({
    executablePath,
    args: [
      "--no-sandbox",
      // Playwright's own option would send loopback addresses through the proxy, too.
      `--proxy-server=${proxy.server}`,
      ...args,
    ],
  });
}

/** What the browser itself tells its maker (components, dictionaries, forms) is no request of a page's. It is
 * refused like all else; what pages ask for is listened to besides. */
export const isOfAPage = (asked: string): boolean =>
  !/^[A-Z]+ (https?:\/\/)?([\w-]+\.)+(google|googleapis|gvt1)\.com[:/]/.test(asked);
