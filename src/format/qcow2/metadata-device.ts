/**
 * The image file as the metadata code sees it: passes everything through and counts the reads and writes, so
 * that a request of several extents can tell whether metadata work made its earlier extents catch up.
 */

import type { Pending } from '../../device/block-device.ts';
import { DeviceFilter } from '../../device/filter.ts';
import type { Purpose } from '../../device/purpose.ts';

export class MetadataDevice extends DeviceFilter {
  /** Reads and writes so far. */
  operationCount = 0;

  override read(offset: number, target: Uint8Array, purpose: Purpose): Pending {
    this.operationCount++;
    return this.inner.read(offset, target, purpose);
  }

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    this.operationCount++;
    return this.inner.write(offset, bytes, purpose, from, to);
  }
}
