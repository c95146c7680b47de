/** Rates measured while reading and answering, from which the pre-flight tells how long the next read
 * will take. */
import type { MeasuredRate } from "../../contract/memory.ts";
import type { Database } from "./database.ts";

interface RateRow {
  model_name: string;
  model_fingerprint: string;
  device: string;
  what: string;
  depth: number;
  budget_tokens: number | null;
  tokens_per_second: number;
  tokens: number;
  measured_at: string;
}

/** Of one model, device and kind; older ones say little of today's machine. */
const keptOfAKind = 200;
/** Shorter stretches say more of the clock than of the machine. */
const leastTokens = { prefill: 128, "ab-sparse": 16, dense: 16 } as const;

export class Rates {
  private readonly database: Database;

  constructor(database: Database) {
    this.database = database;
  }

  add(rate: Omit<MeasuredRate, "measuredAt">): void {
    if (rate.tokens < leastTokens[rate.what] || !(rate.tokensPerSecond > 0)) return;
    const { name, fingerprint } = rate.model;
    this.database.transaction(() => {
      this.database.run(
        `INSERT INTO rates (model_name, model_fingerprint, device, what, depth, budget_tokens,
           tokens_per_second, tokens, measured_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        name,
        fingerprint,
        rate.device,
        rate.what,
        rate.depth,
        rate.budgetTokens,
        rate.tokensPerSecond,
        rate.tokens,
        new Date().toISOString(),
      );
      this.database.run(
        `DELETE FROM rates WHERE model_fingerprint = ?1 AND device = ?2 AND what = ?3
           AND id NOT IN (SELECT id FROM rates WHERE model_fingerprint = ?1 AND device = ?2
             AND what = ?3 ORDER BY id DESC LIMIT ?4)`,
        fingerprint,
        rate.device,
        rate.what,
        keptOfAKind,
      );
    });
  }

  /** The latest first. */
  list(): MeasuredRate[] {
    return this.database.all<RateRow>("SELECT * FROM rates ORDER BY id DESC").map(measured);
  }

  /** Of one model on one device, the latest first. */
  of(fingerprint: string, device: string, what: MeasuredRate["what"]): MeasuredRate[] {
    return this.database
      .all<RateRow>(
        `SELECT * FROM rates WHERE model_fingerprint = ? AND device = ? AND what = ?
         ORDER BY id DESC`,
        fingerprint,
        device,
        what,
      )
      .map(measured);
  }
}

function measured(row: RateRow): MeasuredRate {
  return {
    model: { name: row.model_name, fingerprint: row.model_fingerprint },
    device: row.device,
    what: row.what as MeasuredRate["what"],
    depth: row.depth,
    budgetTokens: row.budget_tokens,
    tokensPerSecond: row.tokens_per_second,
    tokens: row.tokens,
    measuredAt: row.measured_at,
  };
}
