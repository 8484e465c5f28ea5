/** Making an image: two superblocks without a tree. */

import { bytesOfText } from '../../core/byte-text.ts';
import { Qcow2BenchError } from '../../core/error.ts';
import { LIMITS } from '../../core/limits.ts';
import type { CreateOptions } from '../image-options.ts';
import { SHAPE_DEFAULTS } from '../image-shape.ts';
import { checkVirtualSize } from './btree-image.ts';
import { BLOCK_SIZE } from './on-disk/layout.ts';
import { EMPTY_ROOT, encodeSuperblock, type Superblock } from './on-disk/superblock.ts';

/** @throws Qcow2BenchError `btree-bad-image-size`, `btree-bad-backing-name` */
export async function createBtree(options: CreateOptions): Promise<void> {
  const { device, virtualSize, backingFile, shape } = options;
  const { path } = device;
  checkVirtualSize(virtualSize, path);
  const length = backingFile === undefined ? 1 : bytesOfText(backingFile.name).byteLength;
  if (length === 0 || length > LIMITS.backingFileNameBytes) {
    throw new Qcow2BenchError(
      'btree-bad-backing-name',
      `the backing file's name has ${String(length)} bytes: it must have 1 to ${String(LIMITS.backingFileNameBytes)}`,
      { path },
    );
  }
  const superblock: Omit<Superblock, 'generation'> = {
    virtualSize,
    nodeSize: shape?.nodeSize ?? SHAPE_DEFAULTS.nodeSize,
    isUnordered: false,
    root: EMPTY_ROOT,
    epoch: 0,
    snapshots: { block: 0, bytes: 0, checksum: 0 },
    journal: { block: 0, blocks: 0 },
    backing: backingFile,
    proofs: new Map(),
  };
  await device.truncate(0, 'superblock');
  for (const slot of [0, 1]) {
    const bytes = encodeSuperblock({ ...superblock, generation: 2 - slot });
    await device.write(slot * BLOCK_SIZE, bytes, 'superblock');
  }
}
