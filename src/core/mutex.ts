import { andFinally, type MaybePromise } from './pending.ts';

/**
 * A first-in first-out lock for asynchronous work.
 *
 * Invariants: only this file acquires and releases it, so a lock that is taken is given back,
 * whatever the work does. A free lock and work that is done at once make no promise.
 */
export class Mutex {
  #held = false;
  readonly #waiting: (() => void)[] = [];

  /**
   * Runs `work(...args)` with the lock held and releases it when the work has ended, also if it
   * failed. Arguments are passed on, so that a hot path needs no closure.
   *
   * @returns what the work returns
   * @throws what the work throws
   */
  hold<A extends readonly unknown[], R>(work: (...args: A) => R, ...args: A): R | Promise<Awaited<R>> {
    const turn = this.#acquire();
    if (turn !== undefined) return this.#holdInTurn(turn, work, ...args);
    let result: R;
    try {
      result = work(...args);
    } catch (error) {
      this.#release();
      throw error;
    }
    if (result instanceof Promise) return andFinally(result as Promise<Awaited<R>>, this.#release);
    this.#release();
    return result;
  }

  /**
   * Runs `work` with the lock, which the caller holds, released, and takes it again before it
   * returns.
   */
  async pause<T>(work: () => MaybePromise<T>): Promise<T> {
    this.#release();
    try {
      return await work();
    } finally {
      const turn = this.#acquire();
      if (turn !== undefined) await turn;
    }
  }

  async #holdInTurn<A extends readonly unknown[], R>(
    turn: Promise<void>,
    work: (...args: A) => R,
    ...args: A
  ): Promise<Awaited<R>> {
    await turn;
    try {
      return await work(...args);
    } finally {
      this.#release();
    }
  }

  /** Takes the lock: at once if it is free, else when its turn comes. */
  #acquire(): undefined | Promise<void> {
    if (!this.#held) {
      this.#held = true;
      return undefined;
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Hands the lock to the work that has waited longest. */
  readonly #release = (): void => {
    // `shift` is a call of the runtime, also of an empty list.
    const next = this.#waiting.length === 0 ? undefined : this.#waiting.shift();
    if (next === undefined) this.#held = false;
    else next();
  };
}
