/**
 * The raw format: guest offset equals host offset, and the file holds nothing else.
 *
 * Invariants:
 * - Nothing is allocated, translated or cached: each guest request is at most one host operation
 *   (real zeroes, where the device has no zero-range, are as many as the buffer of zeroes asks
 *   for).
 * - The file's length is the disk's size, rounded up to a sector as QEMU does; the file itself is
 *   not grown to that length before somebody writes there.
 */

import { alignUp, isAligned, SECTOR_SIZE } from '../../core/alignment.ts';
import { assertInvariant, Qcow2BenchError } from '../../core/error.ts';
import type { Pending } from '../../core/pending.ts';
import type { BlockDevice } from '../../device/block-device.ts';
import type { SyncCause } from '../../device/purpose.ts';
import { discardRange } from '../../device/zeroing.ts';
import type { DiskImage, MapOptions, Mapping } from '../disk-image.ts';
import type { CreateOptions, OpenOptions } from '../image-options.ts';
import { SHAPE_DEFAULTS, type Preallocation } from '../image-shape.ts';
import { extendEmptyFile, PREALLOCATION_GROWTH } from '../empty-file.ts';
import { impossibleRaw } from './rules.ts';
import { zeroOrWrite } from '../real-zeroes.ts';

/**
 * Opens a raw image: any file is one.
 *
 * @throws Qcow2BenchError `raw-size-unaligned` where O_DIRECT could not write its last bytes
 *   without making it longer, as QEMU refuses it; or of the device.
 */
export function openRaw(options: OpenOptions): RawImage {
  const { device, readOnly } = options;
  const size = alignUp(device.size(), SECTOR_SIZE);
  const { hostAlignment } = device;
  if (!readOnly && !isAligned(size, hostAlignment)) {
    throw new Qcow2BenchError(
      'raw-size-unaligned',
      `the image is ${String(size)} bytes long, which is no multiple of the ${String(hostAlignment)} that O_DIRECT asks for here: ` +
        'use a cache mode without O_DIRECT, or resize the image',
      { path: device.path },
    );
  }
  return new RawImage(options);
}

/**
 * Makes `device` a raw image of `virtualSize` bytes, all zero, with the space that `preallocation`
 * asks for.
 *
 * @throws Qcow2BenchError of `impossibleRaw`, or of the device.
 */
export async function createRaw(options: CreateOptions): Promise<void> {
  const { device } = options;
  const broken = impossibleRaw(options);
  if (broken !== undefined) throw new Qcow2BenchError(broken.code, broken.message, { path: device.path });
  const { preallocation = SHAPE_DEFAULTS.preallocation } = options.shape ?? {};
  // Twice, so that nothing of a former content stays.
  await device.truncate(0, 'data');
  await extendEmptyFile(device, options.virtualSize, PREALLOCATION_GROWTH[preallocation]);
}

export class RawImage implements DiskImage {
  readonly format = 'raw';
  readonly clusterSize = 1;
  /** Always `undefined`: the format has no place to name one. */
  readonly backing = undefined;
  /** Always 0: the format does not allocate, whatever the file system below does. */
  readonly allocatingWrites = 0;
  readonly metadataInMemory = 0;
  readonly #device: BlockDevice;
  readonly #readOnly: boolean;
  readonly #readPurpose: OpenOptions['readPurpose'];
  #virtualSize: number;
  #closed = false;

  constructor(options: Pick<OpenOptions, 'device' | 'readOnly' | 'readPurpose'>) {
    this.#device = options.device;
    this.#readOnly = options.readOnly;
    this.#readPurpose = options.readPurpose;
    this.#virtualSize = alignUp(options.device.size(), SECTOR_SIZE);
  }

  get virtualSize(): number {
    return this.#virtualSize;
  }

  read(guestOffset: number, target: Uint8Array): Pending {
    return this.#device.read(guestOffset, target, this.#readPurpose);
  }

  write(guestOffset: number, bytes: Uint8Array): Pending {
    assertInvariant(!this.#readOnly, 'write to a raw image opened read-only');
    return this.#device.write(guestOffset, bytes, 'data');
  }

  writeZeroes(guestOffset: number, length: number, options: { readonly unmap: boolean }): Pending {
    assertInvariant(!this.#readOnly, 'write-zeroes to a raw image opened read-only');
    return zeroOrWrite(this.#device, guestOffset, length, { purpose: 'data', mayUnmap: options.unmap });
  }

  /** A hint: where the device cannot punch holes, the bytes stay as they are. */
  discard(guestOffset: number, length: number): Pending {
    assertInvariant(!this.#readOnly, 'discard in a raw image opened read-only');
    return discardRange(this.#device, guestOffset, length, 'data');
  }

  flush(cause: SyncCause): Pending {
    return this.#device.sync(cause);
  }

  syncWrite(cause: SyncCause): Pending {
    return this.#device.sync(cause, 'never');
  }

  /** @throws Qcow2BenchError `raw-no-metadata` */
  async resize(virtualSize: number, preallocation: Preallocation = 'off'): Promise<void> {
    assertInvariant(!this.#readOnly, 'resize of a raw image opened read-only');
    const broken = preallocation === 'metadata' ? impossibleRaw({ shape: { preallocation } }) : undefined;
    if (broken !== undefined) {
      throw new Qcow2BenchError(broken.code, broken.message, { path: this.#device.path });
    }
    await this.#device.truncate(virtualSize, 'data', PREALLOCATION_GROWTH[preallocation]);
    this.#virtualSize = virtualSize;
  }

  /** Everything inside the file is data, unless holes are asked for. */
  async map(guestOffset: number, length: number, options?: MapOptions): Promise<Mapping> {
    const inside = this.#device.size() - guestOffset;
    const cutSectors = options?.cutSectors === true;
    if (inside <= 0) {
      const isTail = cutSectors && guestOffset < this.#virtualSize;
      return isTail
        ? { kind: 'zero', length, hostOffset: guestOffset }
        : { kind: 'unallocated', length, hostOffset: undefined };
    }
    if (options?.seeHoles === true) {
      const { isData, length: found } = this.#device.extentAt(guestOffset);
      // What the end of the file cuts off of its last sector goes with what is before it.
      const whole = alignUp(guestOffset + found, SECTOR_SIZE) - guestOffset;
      const held = isData && cutSectors ? found : whole;
      return { kind: isData ? 'data' : 'zero', length: Math.min(length, held), hostOffset: guestOffset };
    }
    return { kind: 'data', length: Math.min(length, inside), hostOffset: guestOffset };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      if (!this.#readOnly) await this.#device.sync('close');
    } finally {
      await this.#device.close();
    }
  }

  async abandon(): Promise<void> {
    this.#closed = true;
    await this.#device.close();
  }
}
