/**
 * Lets requests that are in flight at once interleave where the file itself answers at once: every
 * operation gets its answer later, in virtual time.
 *
 * Invariants:
 * - Operations are served one after another and take one unit of time, syncs beside them, one after
 *   another too, and take `SYNC_UNITS`: long enough that other requests go on meanwhile, as on a
 *   real disk.
 * - The interleaving depends on the requests and their host operations alone: not on speed, and not
 *   on how the code between two operations is written. So counts at any queue depth repeat.
 * - The operation itself happens when it is issued: what is deferred is the answer.
 */

import type { Pending } from '../core/pending.ts';
import type { BlockDevice, Elision, FileGrowth, WritePart } from './block-device.ts';
import { DeviceFilter } from './filter.ts';
import type { Purpose, SyncCause } from './purpose.ts';
import { VirtualTime } from './virtual-time.ts';

const SYNC_UNITS = 50;

/** The time and the places of service that the files of one image share. */
export class Deferral {
  readonly #time = new VirtualTime();
  #freeAt = 0;
  #syncFreeAt = 0;

  operation(): Promise<void> {
    this.#freeAt = Math.max(this.#time.nowNs, this.#freeAt) + 1;
    return this.#time.until(this.#freeAt);
  }

  sync(): Promise<void> {
    this.#syncFreeAt = Math.max(this.#time.nowNs, this.#syncFreeAt) + SYNC_UNITS;
    return this.#time.until(this.#syncFreeAt);
  }
}

export class DeferredDevice extends DeviceFilter {
  readonly #deferral: Deferral;

  constructor(inner: BlockDevice, deferral: Deferral) {
    super(inner);
    this.#deferral = deferral;
  }

  override read(offset: number, target: Uint8Array, purpose: Purpose): Pending {
    return this.inner.read(offset, target, purpose) ?? this.#deferral.operation();
  }

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    return this.inner.write(offset, bytes, purpose, from, to) ?? this.#deferral.operation();
  }

  override writeMerged(offset: number, parts: readonly WritePart[]): Pending {
    return this.inner.writeMerged(offset, parts) ?? this.#deferral.operation();
  }

  override zeroRange(offset: number, length: number, purpose: Purpose): Pending {
    return this.inner.zeroRange(offset, length, purpose) ?? this.#deferral.operation();
  }

  override punchHole(offset: number, length: number, purpose: Purpose, isZeroWrite?: boolean): Pending {
    return this.inner.punchHole(offset, length, purpose, isZeroWrite) ?? this.#deferral.operation();
  }

  override reserve(offset: number, length: number, purpose: Purpose): Pending {
    return this.inner.reserve(offset, length, purpose) ?? this.#deferral.operation();
  }

  override truncate(size: number, purpose: Purpose, growth?: FileGrowth): Pending {
    return this.inner.truncate(size, purpose, growth) ?? this.#deferral.operation();
  }

  override sync(cause: SyncCause, elision?: Elision): Pending {
    return this.inner.sync(cause, elision) ?? this.#deferral.sync();
  }
}
