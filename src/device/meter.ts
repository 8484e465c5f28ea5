/**
 * The filter that counts: every operation that reaches the device below it goes into a `HostMeter`
 * when it is issued. It is below `SyncElision`, so that the syncs it sees are those issued.
 */

import type { Pending } from '../core/pending.ts';
import type { BlockDevice, Elision, FileGrowth, WritePart } from './block-device.ts';
import { DeviceFilter } from './filter.ts';
import type { HostMeter } from './host-meter.ts';
import type { Purpose, SyncCause } from './purpose.ts';

export class Meter extends DeviceFilter {
  readonly #meter: HostMeter;

  constructor(inner: BlockDevice, meter: HostMeter) {
    super(inner);
    this.#meter = meter;
  }

  override read(offset: number, target: Uint8Array, purpose: Purpose): Pending {
    this.#meter.count('read', purpose, target.byteLength);
    return this.inner.read(offset, target, purpose);
  }

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    this.#meter.count('write', purpose, bytes.byteLength);
    return this.inner.write(offset, bytes, purpose, from, to);
  }

  override writeMerged(offset: number, parts: readonly WritePart[]): Pending {
    this.#meter.countMerged(parts);
    return this.inner.writeMerged(offset, parts);
  }

  override zeroRange(offset: number, length: number, purpose: Purpose): Pending {
    this.#meter.count('zero-range', purpose, length);
    return this.inner.zeroRange(offset, length, purpose);
  }

  override punchHole(offset: number, length: number, purpose: Purpose, isZeroWrite?: boolean): Pending {
    this.#meter.count('punch-hole', purpose, length);
    return this.inner.punchHole(offset, length, purpose, isZeroWrite);
  }

  override truncate(size: number, purpose: Purpose, growth?: FileGrowth): Pending {
    this.#meter.count('truncate', purpose, 0);
    return this.inner.truncate(size, purpose, growth);
  }

  override sync(cause: SyncCause, elision?: Elision): Pending {
    this.#meter.countSync(cause);
    return this.inner.sync(cause, elision);
  }
}
