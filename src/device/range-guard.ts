/**
 * Which ranges of a file are being written, so that a read-modify-write meets no other write on the
 * same bytes between its read and its write.
 *
 * Invariants: an exclusive range overlaps no other range in flight; plain ranges may overlap each
 * other. No request holds a range while waiting for another, so there is no deadlock. On a device
 * that completes synchronously nothing is ever in flight, and every check sees an empty list.
 */

import type { Pending } from '../core/pending.ts';

/** A range in flight, from `start` to `end` (excluded), in bytes. */
interface HeldRange {
  readonly start: number;
  readonly end: number;
  readonly exclusive: boolean;
  readonly done: Promise<void>;
}

export class RangeGuard {
  readonly #held: HeldRange[] = [];

  /**
   * What a write of the range has to wait for (and then ask again); `undefined` if it may start.
   */
  blocker(start: number, end: number, exclusive: boolean): Pending {
    for (const held of this.#held) {
      if (held.start < end && start < held.end && (exclusive || held.exclusive)) return held.done;
    }
    return undefined;
  }

  /** Holds the range until `work` settles; answers what the caller is to wait for. */
  hold(start: number, end: number, exclusive: boolean, work: Promise<void>): Promise<void> {
    const release = (): void => {
      this.#held.splice(this.#held.indexOf(held), 1);
    };
    // Waiters only want to know that it is over; failures are reported to the requester.
    const held: HeldRange = { start, end, exclusive, done: work.then(release, release) };
    this.#held.push(held);
    return held.done.then(() => work);
  }
}
