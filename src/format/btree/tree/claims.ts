/**
 * What of a file is in use, found by walking all trees: at an opening for writing, and after snapshots
 * changed.
 *
 * Invariants:
 * - Within the tree of the disk nothing may be in two places. Trees of snapshots share nodes and data
 *   with it and with one another; what was seen is not walked again.
 * - Memory is that of two sets of blocks, whatever the file claims.
 */

import { Qcow2BenchError } from '../../../core/error.ts';
import type { JournalRecord } from '../on-disk/journal-record.ts';
import { BLOCK_SIZE, NO_EXTENT, ZERO_EXTENT } from '../on-disk/layout.ts';
import { walkTree } from '../on-disk/tree-walk.ts';
import { BlockMap } from './block-map.ts';
import type { HostSpace } from './host-space.ts';
import type { ImageCore } from './image-core.ts';
import { badNode } from './node-cache.ts';

/**
 * Counts the image's space from scratch. What is in memory must be committed.
 *
 * @param records of the journal, which are not in the tree yet
 * @throws Qcow2BenchError `btree-bad-node`, `btree-overlap`
 */
export async function claimAll(core: ImageCore, records: readonly JournalRecord[] = []): Promise<void> {
  const { device, nodeSize, snapshots, space } = core;
  const { root } = core.tree;
  const nodes = new BlockMap();
  space.reset();
  for (const { block, blocks } of core.places) space.claim(block, blocks);
  const trees = [root, ...snapshots.map((snapshot) => snapshot.root)];
  for (const [index, tree] of trees.entries()) {
    // A snapshot can have the very tree of the disk.
    const isDisk = index === 0;
    await walkTree({ device, nodeSize }, tree, {
      enters: ({ block }) => {
        const isNew = !nodes.has(block);
        const added = space.claim(block, nodeSize / BLOCK_SIZE);
        if (isDisk && (!isNew || added < nodeSize / BLOCK_SIZE)) throw overlap(device.path, block, 'a node');
        nodes.add(block, nodeSize / BLOCK_SIZE);
        return isNew;
      },
      onExtent: (_guest, blocks, host) => {
        if (host === ZERO_EXTENT) return;
        const added = space.claim(host, blocks);
        if (isDisk && added < blocks) throw overlap(device.path, host, 'an extent');
      },
      onDamage: (rule, { block }) => {
        throw badNode(device.path, block, rule);
      },
    });
  }
  claimRecords(space, records);
  space.finishClaims(nodes, Math.ceil(device.size() / BLOCK_SIZE));
}

/** What the records lead to; the trees may lead there as well. */
export function claimRecords(space: HostSpace, records: readonly JournalRecord[]): void {
  for (const { operations } of records) {
    for (const [, blocks, host] of operations) {
      if (host !== ZERO_EXTENT && host !== NO_EXTENT) space.claim(host, blocks);
    }
  }
}

function overlap(path: string, block: number, what: string): Qcow2BenchError {
  return new Qcow2BenchError(
    'btree-overlap',
    `${what} of the tree begins where something else is stored: the image cannot be written to; run check, or repair it with check --repair all`,
    { path, offset: block * BLOCK_SIZE },
  );
}
