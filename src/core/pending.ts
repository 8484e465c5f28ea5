/**
 * Steps that are done at once wherever nothing has to be waited for.
 *
 * On a device that answers at once, an engine whose every step is a promise spends most of its time
 * in promises. So a step returns its value, or a promise of it, and what follows it is written
 * once:
 *
 *      const pending = this.#writeData(extent);
 *      return pending === undefined ? this.#link(extent) : after(pending, this.#link.bind(this, extent));
 *
 * The synchronous path allocates nothing. An arrow function in place of `bind` would cost a fifth
 * of the engine's speed: a function whose variables a closure uses keeps them on the heap, also
 * when the closure is never made.
 */

/** A value that is there, or the promise of one. */
export type MaybePromise<T> = T | Promise<T>;

/** A step without a value: `undefined` if it is done, else the promise of its end. */
export type Pending = undefined | Promise<void>;

/** Calls `next` with the value once the promise is fulfilled; a rejection is passed on. */
export async function after<T, R>(promise: Promise<T>, next: (value: T) => MaybePromise<R>): Promise<R> {
  const value = await promise;
  return await next(value);
}

/** As `after`; if the promise is rejected, calls `recover` with the error instead. */
export async function settle<T, R>(
  promise: Promise<T>,
  next: (value: T) => MaybePromise<R>,
  recover: (error: unknown) => MaybePromise<R>,
): Promise<R> {
  let value: T;
  try {
    value = await promise;
  } catch (error) {
    return await recover(error);
  }
  return await next(value);
}

/** Runs `cleanup` when the promise has ended, fulfilled or not. */
export async function andFinally<T>(promise: Promise<T>, cleanup: () => void): Promise<T> {
  try {
    return await promise;
  } finally {
    cleanup();
  }
}

/** Runs steps one after another, each when the one before it is done. */
export function inOrder(steps: readonly (() => Pending)[], from = 0): Pending {
  for (let index = from; index < steps.length; index++) {
    const pending = steps[index]?.();
    if (pending !== undefined) return pending.then(() => inOrder(steps, index + 1));
  }
  return undefined;
}
