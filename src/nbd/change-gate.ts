/**
 * Keeps a read-modify-write alone: while one runs, nothing else changes the image.
 *
 * Invariants: changes of whole sectors pass freely, any number at once, while the gate is open; an
 * exclusive piece of work waits until they are done and keeps later ones out, so that it cannot
 * starve.
 */

import { Mutex } from '../core/mutex.ts';
import { andFinally, type Pending } from '../core/pending.ts';

export class ChangeGate {
  readonly #exclusive = new Mutex();
  #exclusiveCount = 0;
  #inFlight = 0;
  readonly #waiting: (() => void)[] = [];

  /** Whether a change may be issued at once. */
  get isOpen(): boolean {
    return this.#exclusiveCount === 0;
  }

  /** Resolves when the gate is open; it may be shut again by then. */
  opened(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Notes a change that was issued at the open gate; answers what waits for it. */
  pass(pending: Pending): Pending {
    if (pending === undefined) return undefined;
    this.#inFlight++;
    return andFinally(pending, this.#end);
  }

  /** Does `work` while nothing else changes the image. */
  async exclusively(work: () => Promise<void>): Promise<void> {
    this.#exclusiveCount++;
    try {
      await this.#exclusive.hold(async () => {
        while (this.#inFlight > 0) await this.opened();
        await work();
      });
    } finally {
      this.#exclusiveCount--;
      this.#wake();
    }
  }

  readonly #end = (): void => {
    this.#inFlight--;
    if (this.#inFlight === 0) this.#wake();
  };

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
