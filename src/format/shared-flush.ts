/**
 * Group commit: what asks for a flush while one is in flight shares the next one.
 *
 * Invariants: one flush is in flight at a time; a flush that is shared begins after the last that
 * shares it has come, so it covers all that these have written.
 */

import type { Pending } from '../core/pending.ts';
import type { SyncCause } from '../device/purpose.ts';

type Flush = (cause: SyncCause) => Pending;

/** Flushes by `flush`, whose cause is that of the first of those that share it. */
export function sharedFlush(flush: Flush): Flush {
  /** Resolves when the flush that is in flight has ended, however it ended. */
  let inFlight: Promise<void> | undefined;
  /** The one after it, which has not begun. */
  let next: Promise<void> | undefined;

  const begin: Flush = (cause) => {
    const pending = flush(cause);
    if (pending === undefined) return undefined;
    const ended = (): void => {
      inFlight = undefined;
    };
    inFlight = pending.then(ended, ended);
    return pending;
  };
  return (cause) => {
    if (next !== undefined) return next;
    if (inFlight === undefined) return begin(cause);
    next = inFlight.then(() => {
      next = undefined;
      return begin(cause);
    });
    return next;
  };
}
