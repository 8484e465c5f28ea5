/**
 * Counts by words: what was recognised in a trace and not taken, or taken otherwise than recorded.
 *
 * Invariant: bounded, whatever the trace holds: kinds beyond the first ones are counted together.
 */

export interface TallyEntry {
  /** In words: `comment lines`. */
  readonly what: string;
  readonly count: number;
}

const KINDS_MAX = 64;
const OTHERS = 'others';

export class Tally {
  readonly #counts = new Map<string, number>();

  add(what: string, count = 1): void {
    const before = this.#counts.get(what);
    if (before === undefined && this.#counts.size >= KINDS_MAX && what !== OTHERS) this.add(OTHERS, count);
    else this.#counts.set(what, (before ?? 0) + count);
  }

  /** In the order in which the kinds first came. */
  list(): readonly TallyEntry[] {
    return [...this.#counts].map(([what, count]) => ({ what, count }));
  }
}
