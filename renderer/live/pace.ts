/** What an answer changes comes to the screen part by part, so that no frame of it has the work of all. Each
 * part has a pace of its own: faster, nobody could read it. */

/** The least time from one showing of a part to its next. */
const everyMs = { text: 50, maps: 50, charts: 400 };
export type Part = keyof typeof everyMs;

/** Between two parts: longer than a frame of the screen. */
const apartMs = 25;

export class Pace {
  private readonly waiting = new Map<Part, () => void>();
  private readonly shown = new Map<Part, number>();
  private lastShown = Number.NEGATIVE_INFINITY;
  private timer: ReturnType<typeof setTimeout> | null = null;

  /** Shows a part when it is its turn; what waited for it before is left out. */
  ask(part: Part, show: () => void): void {
    const isNew = !this.waiting.has(part);
    this.waiting.set(part, show);
    if (isNew) this.arrange();
  }

  /** What waits to show this part is not wanted any more. */
  forget(part: Part): void {
    this.waiting.delete(part);
  }

  private arrange() {
    if (this.timer !== null) clearTimeout(this.timer);
    const next = this.next();
    const wait = next === null ? null : Math.max(0, this.dueAt(next) - performance.now());
    // A fraction of a millisecond would be cut off, and the timer come too early.
    this.timer = wait === null ? null : setTimeout(() => this.show(), Math.ceil(wait));
  }

  private show() {
    const part = this.next();
    if (part === null) return;
    const now = performance.now();
    // It may come a little early all the same.
    if (now < this.dueAt(part)) return this.arrange();
    const show = this.waiting.get(part)!;
    this.waiting.delete(part);
    this.shown.set(part, now);
    this.lastShown = now;
    this.arrange();
    show();
  }

  /** Of the parts that wait, the one that was due first. */
  private next(): Part | null {
    const parts = [...this.waiting.keys()];
    return parts.sort((a, b) => this.ownDueAt(a) - this.ownDueAt(b))[0] ?? null;
  }

  private dueAt(part: Part): number {
    return Math.max(this.ownDueAt(part), this.lastShown + apartMs);
  }

  private ownDueAt(part: Part): number {
    return (this.shown.get(part) ?? Number.NEGATIVE_INFINITY) + everyMs[part];
  }
}

/** Of the answer that is being written. */
export const pace = new Pace();
