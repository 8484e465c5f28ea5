/**
 * Rule R1: a sync is passed on only if something was written since the last one that succeeded.
 *
 * Invariants:
 * - `#writeGen` rises when a change is *done*: a sync that starts while a write is under way does not
 *   cover it, so that write keeps the next sync from being elided. One that failed counts as well: it
 *   may have changed a part. Changes that the caller says are under way count as not done yet.
 * - One sync is under way at a time. Others wait in the order they came and then look again: what the
 *   active one covered is not synced a second time.
 * - A failed sync covers nothing.
 */

import { Mutex } from '../core/mutex.ts';
import type { BlockDevice, FileGrowth, Pending, WritePart } from './block-device.ts';
import { DeviceFilter } from './filter.ts';
import type { Purpose, SyncCause } from './purpose.ts';

export interface SyncElisionOptions {
  /** cache=unsafe: no sync is ever passed on, and none counts as elided. */
  readonly neverSync?: boolean | undefined;
  /** Told of every sync that is not passed on because nothing was written. */
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

  override sync(cause: SyncCause, underWay = 0): Pending {
    if (this.#neverSync) return undefined;
    const generation = this.#writeGen - underWay;
    const waiting = this.#turn.acquire();
    if (waiting !== undefined) return this.#syncInTurn(waiting, cause, generation);

    let pending: Pending;
    try {
      pending = this.#syncOnce(cause, generation);
    } catch (error) {
      this.#turn.release();
      throw error;
    }
    if (pending !== undefined) return this.#releaseAfter(pending);
    this.#turn.release();
    return undefined;
  }

  async #syncInTurn(turn: Promise<void>, cause: SyncCause, generation: number): Promise<void> {
    await turn;
    try {
      await this.#syncOnce(cause, generation);
    } finally {
      this.#turn.release();
    }
  }

  async #releaseAfter(pending: Promise<void>): Promise<void> {
    try {
      await pending;
    } finally {
      this.#turn.release();
    }
  }

  /** Runs with the turn held. */
  #syncOnce(cause: SyncCause, generation: number): Pending {
    if (this.#flushedGen >= generation) {
      this.#onElided?.(cause);
      return undefined;
    }
    const pending = this.inner.sync(cause);
    if (pending !== undefined) return this.#coverAfter(pending, generation);
    this.#flushedGen = generation;
    return undefined;
  }

  async #coverAfter(pending: Promise<void>, generation: number): Promise<void> {
    await pending;
    this.#flushedGen = generation;
  }

  #changed(pending: Pending): Pending {
    if (pending !== undefined) return this.#changeAfter(pending);
    this.#writeGen++;
    return undefined;
  }

  async #changeAfter(pending: Promise<void>): Promise<void> {
    try {
      await pending;
    } finally {
      this.#writeGen++;
    }
  }
}
