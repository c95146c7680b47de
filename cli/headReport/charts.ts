/** What a calibration found, drawn: the map of sensitivities, how blocks and budgets are spread over the
 * heads, and how the output error falls with what is read. */
import type { HeadCurves, HeadTable } from "../../contract/heads.ts";
import { count } from "../format.ts";
import {
  blockColours,
  box,
  drawing,
  type Frame,
  heightOf,
  leftAxis,
  path,
  ticksUpTo,
  words,
} from "./svg.ts";

/** Each head as a cell: dark where coarse blocks cost much, with the block size that was chosen. */
export function sensitivityMap({ model, layers, kvHeads, heads }: HeadTable): string {
  const cell = { width: 26, height: 22 };
  const left = 70;
  const top = 46;
  const most = Math.max(...heads.map((head) => head.sensitivity ?? 0), Number.MIN_VALUE);
  const cells = heads.flatMap(({ layer, kvHead, sensitivity, blockTokens }) => {
    const share = Math.max(0, sensitivity ?? 0) / most;
    const place: Frame = {
      left: left + layer * cell.width,
      top: top + kvHead * cell.height,
      width: cell.width - 1,
      height: cell.height - 1,
    };
    const title = `layer ${layer}, KV head ${kvHead}: ${(sensitivity ?? 0).toFixed(3)}`;
    return [
      box(place, blue(share), title),
      words(place.left + cell.width / 2, place.top + 15, String(blockTokens), {
        anchor: "middle",
        size: 10,
        fill: share > 0.45 ? "#ffffff" : "#24211d",
      }),
    ];
  });
  const width = left + layers * cell.width + 20;
  const height = top + kvHeads * cell.height + 60;
  const scale: Frame = { left, top: height - 34, width: 160, height: 12 };
  return drawing(width, height, `Sensitivity of the heads of ${model}`, [
    words(left, 20, "layer"),
    ...Array.from({ length: layers }, (_, layer) =>
      words(left + (layer + 0.5) * cell.width, top - 6, String(layer), {
        anchor: "middle",
        size: 10,
      }),
    ),
    ...Array.from({ length: kvHeads }, (_, kvHead) =>
      words(left - 8, top + kvHead * cell.height + 15, `KV head ${kvHead}`, {
        anchor: "end",
        size: 10,
      }),
    ),
    ...cells,
    ...Array.from({ length: 16 }, (_, step) =>
      box({ ...scale, left: scale.left + step * 10, width: 10.5 }, blue(step / 15)),
    ),
    words(scale.left, scale.top + 26, "0", { size: 10 }),
    words(scale.left + scale.width, scale.top + 26, most.toFixed(2), { anchor: "end", size: 10 }),
    words(
      scale.left + scale.width + 12,
      scale.top + 11,
      "output error with blocks of 128 less that with 16; numbers: the size chosen",
      { size: 11 },
    ),
  ]);
}

/** @param share 0 (white) to 1 (dark blue) */
function blue(share: number): string {
  const mix = (from: number, to: number) => Math.round(from + (to - from) * share);
  return `rgb(${mix(243, 16)}, ${mix(241, 52)}, ${mix(236, 110)})`;
}

/** Shares of the budget that calibration tries, of the reference. */
const shares = [1 / 4, 3 / 8, 1 / 2, 3 / 4, 1, 3 / 2, 2, 3, 4];
const shareNames = ["¼", "⅜", "½", "¾", "1", "1½", "2", "3", "4"];

/** How many heads have which block size, and how many which share of the budget. */
export function histograms({ model, histogram, heads }: HeadTable): string {
  const blocks = histogram.map(({ blockTokens, heads }) => ({
    name: String(blockTokens),
    heads,
    colour: blockColours[blockTokens] ?? "#8a8378",
  }));
  const nearest = heads.map(({ budgetShare }) => nearestShare(budgetShare));
  const budgets = shareNames.map((name, index) => ({
    name,
    heads: nearest.filter((share) => share === index).length,
    colour: "#7a8aa6",
  }));
  const most = ticksUpTo(Math.max(...[...blocks, ...budgets].map(({ heads }) => heads)));
  return drawing(760, 300, `Block sizes and budgets of the heads of ${model}`, [
    ...bars({ left: 64, top: 24, width: 250, height: 210 }, blocks, most, "tokens of a block"),
    ...bars(
      { left: 400, top: 24, width: 340, height: 210 },
      budgets,
      most,
      "share of the budget (1: the mean)",
    ),
  ]);
}

function nearestShare(share: number): number {
  const distance = (index: number) => Math.abs(Math.log(share / shares[index]!));
  return shares.reduce((best, _, index) => (distance(index) < distance(best) ? index : best), 0);
}

function bars(
  frame: Frame,
  values: { name: string; heads: number; colour: string }[],
  ticks: number[],
  label: string,
): string[] {
  const step = frame.width / values.length;
  const bottom = frame.top + frame.height;
  return [
    ...leftAxis(frame, ticks, "heads"),
    ...values.flatMap(({ name, heads, colour }, index) => {
      const top = heightOf(frame, heads, ticks.at(-1)!);
      const middle = frame.left + (index + 0.5) * step;
      return [
        box({ left: middle - step * 0.35, top, width: step * 0.7, height: bottom - top }, colour),
        words(middle, top - 4, String(heads), { anchor: "middle", size: 11 }),
        words(middle, bottom + 18, name, { anchor: "middle" }),
      ];
    }),
    words(frame.left + frame.width / 2, bottom + 42, label, { anchor: "middle" }),
  ];
}

/** Output error, mean over the heads: by block size, with each head as a faint line, and by budget for
 * every block size where that was kept. */
export function errorCurves({ model, reference, heads }: HeadTable, curves: HeadCurves): string {
  const { blockTokens, errorByBlock, budgetTokens, errorByBudget } = curves;
  const hasBudgets = budgetTokens.length > 0;
  const left: Frame = { left: 64, top: 24, width: 300, height: 240 };
  const right: Frame = { left: 450, top: 24, width: 320, height: 240 };
  const chosen = mean(heads.map(({ outputError }) => outputError ?? 0));
  const parts = [
    ...byBlock(left, blockTokens, errorByBlock),
    ...(hasBudgets
      ? byBudget(right, blockTokens, budgetTokens, errorByBudget, chosen, reference)
      : []),
  ];
  return drawing(hasBudgets ? 800 : 400, 330, `Output error of the heads of ${model}`, parts);
}

function byBlock(frame: Frame, sizes: number[], errors: number[][]): string[] {
  const ticks = ticksUpTo(Math.max(...errors.flat()));
  const most = ticks.at(-1)!;
  const x = (index: number) => frame.left + (frame.width * (index + 0.5)) / sizes.length;
  const line = (values: number[]) =>
    values.map((value, index) => [x(index), heightOf(frame, value, most)] as [number, number]);
  return [
    ...leftAxis(frame, ticks, "output error"),
    ...errors.map((head) => path(line(head), { colour: "#2c738e", width: 1, opacity: 0.25 })),
    path(line(sizes.map((_, index) => mean(errors.map((head) => head[index]!)))), { width: 3 }),
    ...sizes.map((size, index) =>
      words(x(index), frame.top + frame.height + 18, String(size), { anchor: "middle" }),
    ),
    words(
      frame.left + frame.width / 2,
      frame.top + frame.height + 42,
      "tokens of a block; each head, and their mean (bold)",
      { anchor: "middle" },
    ),
  ];
}

function byBudget(
  frame: Frame,
  sizes: number[],
  budgets: number[],
  errors: number[][][],
  chosen: number,
  reference: HeadTable["reference"],
): string[] {
  const means = sizes.map((_, size) =>
    budgets.map((_, budget) => mean(errors.map((head) => head[size]![budget]!))),
  );
  const ticks = ticksUpTo(Math.max(...means.flat()));
  const y = (error: number) => heightOf(frame, error, ticks.at(-1)!);
  const span = Math.log(budgets.at(-1)! / budgets[0]!);
  const x = (tokens: number) => frame.left + (frame.width * Math.log(tokens / budgets[0]!)) / span;
  const isNamed = (index: number) => index % 2 === 0;
  const mark =
    reference === null
      ? []
      : [
          `<circle cx="${x(reference.budgetTokens)}" cy="${y(chosen)}" r="5" fill="#b24618"/>`,
          words(x(reference.budgetTokens) - 6, y(chosen) + 18, "profile", {
            anchor: "end",
            fill: "#b24618",
          }),
        ];
  return [
    ...leftAxis(frame, ticks, "output error"),
    ...means.map((values, size) =>
      path(
        values.map((error, index) => [x(budgets[index]!), y(error)] as [number, number]),
        { colour: blockColours[sizes[size]!] ?? "#8a8378" },
      ),
    ),
    ...legend(frame, sizes),
    ...mark,
    ...budgets
      .filter((_, index) => isNamed(index))
      .map((tokens) =>
        words(x(tokens), frame.top + frame.height + 18, count(tokens), {
          anchor: "middle",
          size: 11,
        }),
      ),
    words(
      frame.left + frame.width / 2,
      frame.top + frame.height + 42,
      "budget, tokens per head; mean of heads",
      { anchor: "middle" },
    ),
  ];
}

/** Which colour is which block size, in the frame's empty corner. */
function legend(frame: Frame, sizes: number[]): string[] {
  const left = frame.left + frame.width - 110;
  return sizes.flatMap((size, index) => {
    const top = frame.top + 10 + index * 18;
    return [
      box({ left, top, width: 18, height: 10 }, blockColours[size] ?? "#8a8378"),
      words(left + 26, top + 9, `blocks of ${size}`),
    ];
  });
}

const mean = (values: number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
