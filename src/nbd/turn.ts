/**
 * A client's turn of the event loop: after so much work the others come first.
 *
 * Invariant: among clients that all have requests waiting, each gets the same amount of work done,
 * whatever the size of its requests; a request of many turns pays for them afterwards.
 */

/**
 * Bytes of work in a turn. A large reply leaves in pieces, one a round of all clients, so a round
 * has to be short.
 */
const TURN_BYTES = 256 * 1024;

export class Turn {
  #spent = 0;

  /** Notes work done. */
  spend(bytes: number): void {
    this.#spent += bytes;
  }

  get isOver(): boolean {
    return this.#spent >= TURN_BYTES;
  }

  /** Lets the others have as many turns as this client used. */
  async next(): Promise<void> {
    for (; this.isOver; this.#spent -= TURN_BYTES) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}
