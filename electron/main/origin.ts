/** The window's own origin: one scheme with one host, so that a sender can be checked exactly. */
export const scheme = "scholia-app";
export const origin = `${scheme}://window`;

export function isOwn(url: string): boolean {
  try {
    // A scheme of one's own has the origin "null" for URL, so its parts are compared.
    const { protocol, host } = new URL(url);
    return protocol === `${scheme}:` && host === "window";
  } catch {
    return false;
  }
}

/** What may be opened outside: web addresses, nothing that starts a program.
 * @returns the address as it is parsed; null for anything else */
export function outsideLink(url: string): string | null {
  try {
    const parsed = new URL(url);
    const isWeb = parsed.protocol === "https:" || parsed.protocol === "http:";
    return isWeb && parsed.username === "" ? parsed.href : null;
  } catch {
    return null;
  }
}
