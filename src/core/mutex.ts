/** A first-in first-out lock for coroutines: `await` between `acquire` and `release` excludes others. */
export class Mutex {
  #held = false;
  readonly #waiting: (() => void)[] = [];

  /** Takes the lock: at once if it is free (answers `undefined`), else when its turn comes. */
  acquire(): undefined | Promise<void> {
    if (!this.#held) {
      this.#held = true;
      return undefined;
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Hands the lock to whoever has waited longest. */
  release(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#held = false;
    else next();
  }
}
