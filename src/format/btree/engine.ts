/** What the B-tree format does with files. */

import type { FormatEngine, ImageDetails, LoneFile } from '../format-facts.ts';
import { checkBtree } from './check/check.ts';
import { createBtree } from './create.ts';
import { readBtreeLayout } from './file-layout.ts';
import { BLOCK_SIZE } from './on-disk/layout.ts';
import { openBtree } from './open.ts';
import { findState, readSnapshots } from './tree/recovery.ts';

export const BTREE_ENGINE: FormatEngine = {
  open: openBtree,
  create: createBtree,
  describe,
  check: checkBtree,
  readLayout: readBtreeLayout,
};

async function describe({ device, options, backing }: LoneFile): Promise<ImageDetails> {
  const { superblock, records } = await findState(device);
  const snapshots = await readSnapshots(device, superblock);
  const image = await openBtree(options);
  await image.abandon();
  const { virtualSize, nodeSize, root, generation, isUnordered, journal } = superblock;
  return {
    virtualSize,
    backing: backing(),
    snapshots,
    specific: {
      'node-size': nodeSize,
      'block-size': BLOCK_SIZE,
      levels: root.block === 0 ? 0 : root.level + 1,
      generation,
      'ordered-commit': !isUnordered,
      'journal-size': journal.blocks * BLOCK_SIZE,
      'journal-records': records.length,
    },
  };
}
