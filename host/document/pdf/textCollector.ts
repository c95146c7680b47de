import { boxScale } from "../document.ts";
import type { CollectedText } from "./hyphens.ts";

/** Gathers UTF-16 units and their boxes in arrays that grow, without an object per character. */
export class TextCollector {
  #units = new Uint16Array(1 << 16);
  #boxes = new Uint16Array(1 << 18);
  #length = 0;
  #pageStarts: number[] = [];

  get length(): number {
    return this.#length;
  }

  beginPage(): void {
    this.#pageStarts.push(this.#length);
  }

  /** The last unit of the current page, 0 at its start. */
  get lastUnit(): number {
    const start = this.#pageStarts.at(-1) ?? 0;
    return this.#length > start ? this.#units[this.#length - 1]! : 0;
  }

  /** Adds a character by its code point with the page's share it covers (0…1); without a box it is
   * one that is not drawn. */
  push(codePoint: number, left = 0, top = 0, right = 0, bottom = 0): void {
    if (this.#length + 2 > this.#units.length) this.#grow();
    if (codePoint > 0xffff) {
      const rest = codePoint - 0x10000;
      this.#pushUnit(0xd800 + (rest >> 10), left, top, right, bottom);
      this.#pushUnit(0xdc00 + (rest & 0x3ff), left, top, right, bottom);
    } else {
      this.#pushUnit(codePoint, left, top, right, bottom);
    }
  }

  #pushUnit(unit: number, left: number, top: number, right: number, bottom: number): void {
    this.#units[this.#length] = unit;
    const at = this.#length * 4;
    this.#boxes[at] = quantise(left);
    this.#boxes[at + 1] = quantise(top);
    this.#boxes[at + 2] = quantise(right);
    this.#boxes[at + 3] = quantise(bottom);
    this.#length++;
  }

  textFrom(start: number): string {
    return decode(this.#units.subarray(start, this.#length));
  }

  finish(): CollectedText {
    return {
      text: decode(this.#units.subarray(0, this.#length)),
      boxes: this.#boxes.slice(0, this.#length * 4),
      pageStarts: [...this.#pageStarts, this.#length],
    };
  }

  #grow(): void {
    const units = new Uint16Array(this.#units.length * 2);
    units.set(this.#units);
    this.#units = units;
    const boxes = new Uint16Array(this.#boxes.length * 2);
    boxes.set(this.#boxes);
    this.#boxes = boxes;
  }
}

const quantise = (share: number): number =>
  share <= 0 ? 0 : share >= 1 ? boxScale : Math.round(share * boxScale);

// All machines that Scholia runs on are little-endian, as typed arrays then are.
const decode = (units: Uint16Array): string =>
  Buffer.from(units.buffer, units.byteOffset, units.byteLength).toString("utf16le");
