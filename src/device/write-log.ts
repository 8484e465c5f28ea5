/**
 * The filter that remembers every change of a file with its data, so that a crash after any of them
 * can be played: `stateAfter(n)` is the file with exactly the first n entries done.
 *
 * Invariants:
 * - An entry is appended when its operation has succeeded; what failed is not in the log.
 * - A sync makes durable the entries that were done when it was *issued*, its `covers` first ones.
 *   On a device that answers at once that is everything before it.
 * - Data is copied when the write is issued.
 */

import type { Pending } from '../core/pending.ts';
import type { Elision, FileGrowth, WritePart } from './block-device.ts';
import { DeviceFilter } from './filter.ts';
import { MemoryDevice } from './memory-device.ts';
import { joinedParts, mergedPurpose } from './merged-write.ts';
import type { Purpose, SyncCause } from './purpose.ts';

export interface LoggedWrite {
  readonly op: 'write';
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly purpose: Purpose;
}

export interface LoggedRange {
  readonly op: 'zero-range' | 'punch-hole' | 'reserve';
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  readonly purpose: Purpose;
}

export interface LoggedTruncate {
  readonly op: 'truncate';
  /** Bytes. */
  readonly size: number;
  readonly purpose: Purpose;
}

export interface LoggedSync {
  readonly op: 'sync';
  readonly cause: SyncCause;
  /** How many entries, from the first, are durable once it is done. */
  readonly covers: number;
}

export type WriteLogEntry = LoggedWrite | LoggedRange | LoggedTruncate | LoggedSync;

export class WriteLog extends DeviceFilter {
  readonly #entries: WriteLogEntry[] = [];

  get entries(): readonly WriteLogEntry[] {
    return this.#entries;
  }

  /**
   * The file after the first `count` entries, on a copy of `base`: what it held when the log began
   * (nothing, if left out).
   */
  stateAfter(count: number, base: MemoryDevice = new MemoryDevice()): MemoryDevice {
    const state = base.clone();
    for (const entry of this.#entries.slice(0, count)) applyLogged(state, entry);
    return state;
  }

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    const entry = { op: 'write', offset, bytes: bytes.slice(), purpose } as const;
    return this.#append(entry, this.inner.write(offset, bytes, purpose, from, to));
  }

  override writeMerged(offset: number, parts: readonly WritePart[]): Pending {
    const bytes = joinedParts(parts);
    const entry = { op: 'write', offset, bytes, purpose: mergedPurpose(parts) } as const;
    return this.#append(entry, this.inner.writeMerged(offset, parts));
  }

  override zeroRange(offset: number, length: number, purpose: Purpose): Pending {
    const entry = { op: 'zero-range', offset, length, purpose } as const;
    return this.#append(entry, this.inner.zeroRange(offset, length, purpose));
  }

  override punchHole(offset: number, length: number, purpose: Purpose, isZeroWrite?: boolean): Pending {
    const entry = { op: 'punch-hole', offset, length, purpose } as const;
    return this.#append(entry, this.inner.punchHole(offset, length, purpose, isZeroWrite));
  }

  override reserve(offset: number, length: number, purpose: Purpose): Pending {
    const entry = { op: 'reserve', offset, length, purpose } as const;
    return this.#append(entry, this.inner.reserve(offset, length, purpose));
  }

  override truncate(size: number, purpose: Purpose, growth?: FileGrowth): Pending {
    return this.#append({ op: 'truncate', size, purpose }, this.inner.truncate(size, purpose, growth));
  }

  override sync(cause: SyncCause, elision?: Elision): Pending {
    const entry = { op: 'sync', cause, covers: this.#entries.length } as const;
    return this.#append(entry, this.inner.sync(cause, elision));
  }

  #append(entry: WriteLogEntry, pending: Pending): Pending {
    if (pending !== undefined) return this.#appendAfter(entry, pending);
    this.#entries.push(entry);
    return undefined;
  }

  async #appendAfter(entry: WriteLogEntry, pending: Promise<void>): Promise<void> {
    await pending;
    this.#entries.push(entry);
  }
}

/** Does to `state` what the logged operation did; a sync changes nothing. */
export function applyLogged(state: MemoryDevice, entry: WriteLogEntry): void {
  switch (entry.op) {
    case 'write':
      state.write(entry.offset, entry.bytes, entry.purpose);
      return;
    case 'zero-range':
      state.zeroRange(entry.offset, entry.length, entry.purpose);
      return;
    case 'punch-hole':
      state.punchHole(entry.offset, entry.length, entry.purpose);
      return;
    case 'reserve':
      state.reserve(entry.offset, entry.length, entry.purpose);
      return;
    case 'truncate':
      state.truncate(entry.size, entry.purpose);
      return;
    case 'sync':
      return;
  }
}
