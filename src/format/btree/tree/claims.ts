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
import type { Pending } from '../../../core/pending.ts';
import type { JournalRecord } from '../on-disk/journal-record.ts';
import { BLOCK_SIZE, NO_EXTENT, SUPERBLOCKS, ZERO_EXTENT } from '../on-disk/layout.ts';
import { walkTree } from '../on-disk/tree-walk.ts';
import { BlockMap } from './block-map.ts';
import type { HostSpace } from './host-space.ts';
import type { ImageCore } from './image-core.ts';
import { badNode } from './node-cache.ts';

/**
 * Counts the image's space from scratch. What is in memory must be committed.
 *
 * @param records of the journal, which are not in the tree yet
 * @returns where nodes are
 * @throws Qcow2BenchError `btree-bad-node`, `btree-overlap`
 */
export async function claimAll(core: ImageCore, records: readonly JournalRecord[] = []): Promise<BlockMap> {
  const { device, nodeSize, snapshots, space } = core;
  const { root } = core.nodes;
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
        if (isDisk && (!isNew || added < nodeSize / BLOCK_SIZE)) {
          throw overlap(device.path, block, 'a node of the tree');
        }
        nodes.add(block, nodeSize / BLOCK_SIZE);
        return isNew;
      },
      onExtent: (_guest, blocks, host) => {
        if (host === ZERO_EXTENT) return;
        const added = space.claim(host, blocks);
        if (isDisk && added < blocks) throw overlap(device.path, host, 'an extent of the tree');
      },
      onDamage: (rule, { block }) => {
        throw badNode(device.path, block, rule);
      },
    });
  }
  claimRecords(space, records);
  space.finishClaims(nodes, Math.ceil(device.size() / BLOCK_SIZE));
  return nodes;
}

/**
 * Changes the tree in memory as the journal says.
 *
 * @throws Qcow2BenchError `btree-bad-node`
 */
export async function applyRecords(core: ImageCore, records: readonly JournalRecord[]): Promise<void> {
  for (const { operations } of records) {
    for (const [guest, blocks, host] of operations) await core.map(guest, blocks, host);
  }
}

/**
 * Walks the tree in memory, to which records of the journal were applied.
 *
 * @param nodes where nodes are
 * @param visit gets each extent with data, and whether it has its blocks to itself; it may unmap it
 */
export async function visitApplied(
  core: ImageCore,
  nodes: BlockMap,
  visit: (
    extent: { readonly guest: number; readonly blocks: number; readonly host: number },
    isAlone: boolean,
  ) => Pending,
): Promise<void> {
  const { tree } = core;
  const taken = new BlockMap();
  taken.add(0, SUPERBLOCKS);
  for (const { block, blocks } of core.places) taken.add(block, blocks);
  const end = Math.ceil(core.virtualSize / BLOCK_SIZE);
  for (let guest = 0; guest < end;) {
    const pending = tree.find(guest);
    if (pending !== undefined) {
      await pending;
      continue;
    }
    const host = tree.foundHost;
    const blocks = Math.min(tree.foundBlocks, end - guest);
    if (host !== NO_EXTENT && host !== ZERO_EXTENT) {
      const isAlone = !nodes.hasAny(host, host + blocks) && taken.add(host, blocks) === blocks;
      await visit({ guest, blocks, host }, isAlone);
    }
    guest += blocks;
  }
}

/** @throws Qcow2BenchError `btree-overlap`, of what records of the journal map */
export async function refuseOverlaps(core: ImageCore, nodes: BlockMap): Promise<void> {
  await visitApplied(core, nodes, ({ host }, isAlone) => {
    if (!isAlone) throw overlap(core.device.path, host, 'an extent of the journal');
    return undefined;
  });
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
    `${what} begins where something else is stored: the image cannot be written to; run check, or repair it with check --repair all`,
    { path, offset: block * BLOCK_SIZE },
  );
}
