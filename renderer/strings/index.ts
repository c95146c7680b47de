/** Every word of the window comes from a catalog; English is the first. */
import i18next from "i18next";
import { en } from "./en.ts";

declare module "i18next" {
  interface CustomTypeOptions {
    defaultNS: "translation";
    resources: { translation: typeof en };
  }
}

void i18next.init({
  lng: "en",
  initAsync: false,
  resources: { en: { translation: en } },
  // React escapes what it shows.
  interpolation: { escapeValue: false },
});

export const { t } = i18next;
