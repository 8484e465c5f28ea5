/**
 * Rule R1: a sync is passed on only if something was written since the last one that succeeded.
 *
 * Invariants:
 * - `#writeGen` rises when a change is *done*: a sync that starts while a write is in flight does
 *   not cover it, so that write keeps the next sync from being elided. One that failed counts as
 *   well: it may have changed a part. Changes that the caller says are in flight count as not done
 *   yet.
 * - One sync is in flight at a time. Others wait in the order they came and then look again: what
 *   the active one covered is not synced a second time.
 * - A failed sync covers nothing, and neither does one that is never elided.
 */

import { Mutex } from '../core/mutex.ts';
import { after, andFinally, type Pending } from '../core/pending.ts';
import type { BlockDevice, Elision, FileGrowth, WritePart } from './block-device.ts';
import { DeviceFilter } from './filter.ts';
import type { Purpose, SyncCause } from './purpose.ts';

export interface SyncElisionOptions {
  /** cache=unsafe: no sync is ever passed on, and none counts as elided. */
  readonly neverSync?: boolean | undefined;
  /** Called for every sync that is not passed on because nothing was written. */
  readonly onElided?: ((cause: SyncCause) => void) | undefined;
}

export class SyncElision extends DeviceFilter {
  readonly #neverSync: boolean;
  readonly #onElided: ((cause: SyncCause) => void) | undefined;
  readonly #turn = new Mutex();
  #writeGen = 0;
  #flushedGen = 0;

  constructor(inner: BlockDevice, options: SyncElisionOptions = {}) {
    super(inner);
    this.#neverSync = options.neverSync ?? false;
    this.#onElided = options.onElided;
  }

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    try {
      return this.#changed(this.inner.write(offset, bytes, purpose, from, to));
    } catch (error) {
      this.#writeGen++;
      throw error;
    }
  }

  override writeMerged(offset: number, parts: readonly WritePart[]): Pending {
    try {
      return this.#changed(this.inner.writeMerged(offset, parts));
    } catch (error) {
      this.#writeGen++;
      throw error;
    }
  }

  override zeroRange(offset: number, length: number, purpose: Purpose): Pending {
    try {
      return this.#changed(this.inner.zeroRange(offset, length, purpose));
    } catch (error) {
      this.#writeGen++;
      throw error;
    }
  }

  override punchHole(offset: number, length: number, purpose: Purpose, isZeroWrite?: boolean): Pending {
    try {
      return this.#changed(this.inner.punchHole(offset, length, purpose, isZeroWrite));
    } catch (error) {
      this.#writeGen++;
      throw error;
    }
  }

  override reserve(offset: number, length: number, purpose: Purpose): Pending {
    try {
      return this.#changed(this.inner.reserve(offset, length, purpose));
    } catch (error) {
      this.#writeGen++;
      throw error;
    }
  }

  override truncate(size: number, purpose: Purpose, growth?: FileGrowth): Pending {
    try {
      return this.#changed(this.inner.truncate(size, purpose, growth));
    } catch (error) {
      this.#writeGen++;
      throw error;
    }
  }

  override noteChange(): void {
    this.#writeGen++;
  }

  override sync(cause: SyncCause, elision: Elision = 0): Pending {
    if (this.#neverSync) return undefined;
    if (elision === 'never') return this.inner.sync(cause, undefined);
    return this.#turn.hold(this.#syncOnce, cause, this.#writeGen - elision);
  }

  /** Runs with the turn held. */
  readonly #syncOnce = (cause: SyncCause, generation: number): Pending => {
    if (this.#flushedGen >= generation) {
      this.#onElided?.(cause);
      return undefined;
    }
    const pending = this.inner.sync(cause, undefined);
    if (pending !== undefined) {
      return after(pending, this.#cover.bind(this, generation));
    }
    this.#cover(generation);
    return undefined;
  };

  #cover(generation: number): void {
    this.#flushedGen = generation;
  }

  #changed(pending: Pending): Pending {
    if (pending !== undefined) return andFinally(pending, this.#countChange);
    this.#countChange();
    return undefined;
  }

  readonly #countChange = (): void => {
    this.#writeGen++;
  };
}
