/**
 * Times host operations by what they are for: guest data and the fill around it, metadata, syncs.
 *
 * Invariants: it wraps the bare file, so it times system calls and nothing of ours but two looks at
 * the clock; an operation that is not done at once is timed until it is.
 */

import type { Pending } from '../core/pending.ts';
import type { BlockDevice, Elision, FileGrowth, WritePart } from './block-device.ts';
import { DeviceFilter } from './filter.ts';
import { mergedPurpose } from './merged-write.ts';
import { METADATA_PURPOSES, type Purpose, type SyncCause } from './purpose.ts';

/** Nanoseconds spent in host operations; one is shared by all files of an image. */
export class HostTimes {
  dataNs = 0;
  metadataNs = 0;
  syncNs = 0;

  reset(): void {
    this.dataNs = 0;
    this.metadataNs = 0;
    this.syncNs = 0;
  }

  add(purpose: Purpose, ns: number): void {
    if (METADATA.has(purpose)) this.metadataNs += ns;
    else this.dataNs += ns;
  }
}

const METADATA: ReadonlySet<Purpose> = new Set(METADATA_PURPOSES);

export class Stopwatch extends DeviceFilter {
  readonly #times: HostTimes;
  readonly #ticksNs: () => number;

  constructor(inner: BlockDevice, times: HostTimes, ticksNs: () => number) {
    super(inner);
    this.#times = times;
    this.#ticksNs = ticksNs;
  }

  override read(offset: number, target: Uint8Array, purpose: Purpose): Pending {
    const beganNs = this.#ticksNs();
    return this.#ended(this.inner.read(offset, target, purpose), beganNs, purpose);
  }

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    const beganNs = this.#ticksNs();
    return this.#ended(this.inner.write(offset, bytes, purpose, from, to), beganNs, purpose);
  }

  override writeMerged(offset: number, parts: readonly WritePart[]): Pending {
    const beganNs = this.#ticksNs();
    return this.#ended(this.inner.writeMerged(offset, parts), beganNs, mergedPurpose(parts));
  }

  override zeroRange(offset: number, length: number, purpose: Purpose): Pending {
    const beganNs = this.#ticksNs();
    return this.#ended(this.inner.zeroRange(offset, length, purpose), beganNs, purpose);
  }

  override punchHole(offset: number, length: number, purpose: Purpose, isZeroWrite?: boolean): Pending {
    const beganNs = this.#ticksNs();
    return this.#ended(this.inner.punchHole(offset, length, purpose, isZeroWrite), beganNs, purpose);
  }

  override reserve(offset: number, length: number, purpose: Purpose): Pending {
    const beganNs = this.#ticksNs();
    return this.#ended(this.inner.reserve(offset, length, purpose), beganNs, purpose);
  }

  override truncate(size: number, purpose: Purpose, growth?: FileGrowth): Pending {
    const beganNs = this.#ticksNs();
    return this.#ended(this.inner.truncate(size, purpose, growth), beganNs, purpose);
  }

  override sync(cause: SyncCause, elision?: Elision): Pending {
    const beganNs = this.#ticksNs();
    return this.#ended(this.inner.sync(cause, elision), beganNs, undefined);
  }

  /** Takes the time now, or when the operation is done. */
  #ended(pending: Pending, beganNs: number, purpose: Purpose | undefined): Pending {
    if (pending === undefined) {
      this.#add(purpose, this.#ticksNs() - beganNs);
      return undefined;
    }
    return pending.then(() => {
      this.#add(purpose, this.#ticksNs() - beganNs);
    });
  }

  #add(purpose: Purpose | undefined, ns: number): void {
    if (purpose === undefined) this.#times.syncNs += ns;
    else this.#times.add(purpose, ns);
  }
}
