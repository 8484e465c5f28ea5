/** Making an empty file as long as a disk, as QEMU does it. */

import { SECTOR_SIZE } from '../core/alignment.ts';
import type { BlockDevice, FileGrowth } from '../device/block-device.ts';
import type { Preallocation } from './image-shape.ts';

/**
 * Bytes of the block that QEMU writes first, so that the alignment which O_DIRECT asks for can be
 * detected from it.
 */
const FIRST_BLOCK = 4096;

/** How a file grows by each preallocation. */
export const PREALLOCATION_GROWTH: Readonly<Record<Preallocation, FileGrowth>> = {
  off: 'hole',
  metadata: 'hole',
  falloc: 'reserved',
  full: 'zeroes',
};

/** @param size bytes; the file is empty before. */
export async function extendEmptyFile(device: BlockDevice, size: number, growth: FileGrowth): Promise<void> {
  await device.truncate(size, 'data', growth);
  if (size === 0 || growth === 'zeroes') return;
  await device.write(0, new Uint8Array(size < FIRST_BLOCK ? SECTOR_SIZE : FIRST_BLOCK), 'data');
}
