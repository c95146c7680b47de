import { useEffect, useState } from "react";
import type { PageImage, PageText } from "../../../contract/documents.ts";
import type { ErrorValue, Result } from "../../../contract/errors.ts";
import { useAppStore } from "../../store/app.ts";

/** Something of a page that is fetched: null until it is there. */
function useFetched<Value>(
  fetch: () => Promise<Result<Value>>,
  key: string,
): { value: Value | null; error: ErrorValue | null } {
  const [state, setState] = useState<{ value: Value | null; error: ErrorValue | null }>({
    value: null,
    error: null,
  });
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key names what is fetched
  useEffect(() => {
    let isWanted = true;
    void fetch().then((result) => {
      if (!isWanted) return;
      setState(
        result.ok ? { value: result.value, error: null } : { value: null, error: result.error },
      );
    });
    return () => {
      isWanted = false;
    };
  }, [key]);
  return state;
}

/** The text of a page of the open document. */
export function usePageText(page: number): { value: PageText | null; error: ErrorValue | null } {
  const store = useAppStore();
  return useFetched(() => store.getState().requestPage(page), `${page}`);
}

/** A picture of a page, as wide as this or a little wider; null until it is there. */
export function usePagePicture(
  page: number,
  width: number,
): { value: PageImage | null; error: ErrorValue | null } {
  const store = useAppStore();
  const pixels = pictureWidth(width * (window.devicePixelRatio || 1));
  return useFetched(() => store.getState().requestPicture(page, pixels), `${page} ${pixels}`);
}

const step = 200;
const most = 4096;

/** In steps, so that dragging a pane does not fetch a picture for each of its widths. */
export const pictureWidth = (pixels: number): number =>
  Math.min(most, Math.max(step, Math.ceil(pixels / step) * step));
