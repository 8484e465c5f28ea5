/**
 * A file that keeps an image's metadata and forgets everything else: what is left of a run's time
 * on it is the harness and the engine.
 *
 * Invariant: bytes of guest data and copy-on-write fill read as zeroes, also where metadata lay
 * before.
 */

import { MemoryDevice, type MemoryDeviceOptions } from './memory-device.ts';
import type { Purpose } from './purpose.ts';

export class NullDevice extends MemoryDevice {
  constructor(options: MemoryDeviceOptions = {}) {
    super({ ...options, path: options.path ?? `null:${options.label ?? 'image'}` });
  }

  protected override put(
    offset: number,
    bytes: Uint8Array,
    purpose: Purpose,
    from?: number,
    to?: number,
  ): void {
    if (purpose !== 'data' && purpose !== 'cow') {
      super.put(offset, bytes, purpose, from, to);
      return;
    }
    this.bytes.clear(offset, bytes.byteLength);
    this.bytes.growTo(offset + bytes.byteLength);
  }
}
