/** Where a B-tree file has what, for comparisons of operations. */

import type { BlockDevice } from '../../device/block-device.ts';
import { ClusterMap, type FileLayout } from '../file-layout.ts';
import { BLOCK_SIZE, SUPERBLOCKS, ZERO_EXTENT } from './on-disk/layout.ts';
import { walkTree } from './on-disk/tree-walk.ts';
import { badNode } from './tree/node-cache.ts';
import { findState } from './tree/recovery.ts';

/** The device stays open. */
export async function readBtreeLayout(device: BlockDevice): Promise<FileLayout> {
  const { superblock } = await findState(device);
  const { nodeSize, root, snapshots, journal } = superblock;
  const map = new ClusterMap(BLOCK_SIZE);
  map.addMetadata(0, SUPERBLOCKS * BLOCK_SIZE, 'superblock');
  map.addMetadata(journal.block * BLOCK_SIZE, journal.blocks * BLOCK_SIZE, 'journal');
  map.addMetadata(snapshots.block * BLOCK_SIZE, snapshots.bytes, 'snapshot-table');
  await walkTree({ device, nodeSize }, root, {
    enters: ({ block }) => {
      map.addMetadata(block * BLOCK_SIZE, nodeSize, 'btree-node');
      return true;
    },
    onExtent: (guest, blocks, host) => {
      if (host === ZERO_EXTENT) return;
      for (let index = 0; index < blocks; index++) {
        map.addGuestCluster(guest + index, (host + index) * BLOCK_SIZE);
      }
    },
    onDamage: (rule, { block }) => {
      throw badNode(device.path, block, rule);
    },
  });
  return map;
}
