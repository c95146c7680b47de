/** Several ports over one: a shell that serves many windows has one channel to the host, and each window
 * a lane of it. Messages without a lane are the shell's own. */
import type { Port } from "../contract/wire.ts";

type Envelope =
  | { lane: number; what: "open" | "close" }
  | { lane: number; what: "message"; message: unknown };

export interface SplitPort {
  /** For the two ends themselves. */
  readonly main: Port;
  /** Opens a lane to the other end. */
  openLane(): Port;
  /** Called for each lane that the other end opens. */
  onLane(listener: (lane: Port) => void): void;
}

export function splitPort(port: Port): SplitPort {
  const lanes = new Map<number, Lane>();
  const onMain: ((message: unknown) => void)[] = [];
  let onLane: (lane: Port) => void = () => {};
  let lastLane = 0;

  const addLane = (number: number): Lane => {
    const lane = new Lane(
      (message) => port.post({ lane: number, what: "message", message } satisfies Envelope),
      () => {
        if (lanes.delete(number)) port.post({ lane: number, what: "close" } satisfies Envelope);
      },
    );
    lanes.set(number, lane);
    return lane;
  };
  port.onMessage((raw) => {
    if (!isEnvelope(raw)) {
      for (const listener of onMain) listener(raw);
    } else if (raw.what === "open") {
      onLane(addLane(raw.lane).port);
    } else if (raw.what === "message") {
      lanes.get(raw.lane)?.take(raw.message);
    } else {
      const lane = lanes.get(raw.lane);
      lanes.delete(raw.lane);
      lane?.end();
    }
  });
  port.onClose(() => {
    for (const lane of lanes.values()) lane.end();
    lanes.clear();
  });
  return {
    main: { ...port, onMessage: (listener) => void onMain.push(listener) },
    openLane() {
      lastLane++;
      port.post({ lane: lastLane, what: "open" } satisfies Envelope);
      return addLane(lastLane).port;
    },
    onLane(listener) {
      onLane = listener;
    },
  };
}

function isEnvelope(raw: unknown): raw is Envelope {
  return typeof raw === "object" && raw !== null && "lane" in raw;
}

class Lane {
  readonly port: Port;
  private readonly onMessage: ((message: unknown) => void)[] = [];
  private readonly onClose: (() => void)[] = [];
  private ended = false;

  constructor(post: (message: unknown) => void, close: () => void) {
    this.port = {
      post: (message) => {
        if (!this.ended) post(message);
      },
      onMessage: (listener) => void this.onMessage.push(listener),
      onClose: (listener) => void this.onClose.push(listener),
      close: () => {
        close();
        this.end();
      },
    };
  }

  take(message: unknown) {
    for (const listener of this.onMessage) listener(message);
  }

  end() {
    if (this.ended) return;
    this.ended = true;
    for (const listener of this.onClose) listener();
  }
}
