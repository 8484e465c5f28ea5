/**
 * The image file as the metadata code sees it: passes everything through and counts the reads and
 * writes, so that a request of several extents can tell whether metadata work made its earlier
 * extents catch up. Until there is such work, data of the request that is in flight keeps no sync
 * from being elided (R1).
 */

import type { HostOffset } from '../../../core/offsets.ts';
import type { Pending } from '../../../core/pending.ts';
import type { Elision } from '../../../device/block-device.ts';
import { DeviceFilter } from '../../../device/filter.ts';
import type { Purpose, SyncCause } from '../../../device/purpose.ts';

export class MetadataDevice extends DeviceFilter {
  /** Reads and writes so far. */
  operationCount = 0;
  /** Changes of the file, the last ones, that are still in flight while metadata is worked on. */
  #inFlight = 0;

  /** Declares the last `changes` in flight until the next read or write or the next call. */
  setInFlight(changes: number): void {
    this.#inFlight = changes;
  }

  override read(offset: HostOffset, target: Uint8Array, purpose: Purpose): Pending {
    this.#countOperation();
    return this.inner.read(offset, target, purpose);
  }

  override write(
    offset: HostOffset,
    bytes: Uint8Array,
    purpose: Purpose,
    from?: number,
    to?: number,
  ): Pending {
    this.#countOperation();
    return this.inner.write(offset, bytes, purpose, from, to);
  }

  override sync(cause: SyncCause, elision: Elision = this.#inFlight): Pending {
    return this.inner.sync(cause, elision);
  }

  #countOperation(): void {
    this.operationCount++;
    this.#inFlight = 0;
  }
}
