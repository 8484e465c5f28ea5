/**
 * Letting the event loop have its turn. A run on devices that answer at once never waits, so
 * without this no signal would arrive and no progress bar would move until its end.
 *
 * Invariant: a turn is given at most every `TURN_EVERY_NS`, so that fast passes hardly pay for it.
 */

import { setImmediate } from 'node:timers/promises';

import type { Clock } from './clock.ts';

const TURN_EVERY_NS = 50_000_000n;

export class TurnTaking {
  readonly #clock: Clock;
  #lastNs: bigint;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#lastNs = clock.nowNs();
  }

  /** Gives the event loop a turn if the last one is long enough ago. */
  next(): void | Promise<void> {
    if (this.#clock.nowNs() - this.#lastNs < TURN_EVERY_NS) return undefined;
    return this.#give();
  }

  async #give(): Promise<void> {
    await setImmediate();
    this.#lastNs = this.#clock.nowNs();
  }
}
