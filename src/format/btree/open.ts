/**
 * Opening an image: which superblock is in force, the backing file, the journal, and for writing what
 * of the file is in use.
 *
 * Invariants:
 * - Opened read-only, nothing is written: records of the journal are applied in memory.
 * - Opened for writing, the tree is committed in order before anything else if the last commit was
 *   not, or if the journal had records: what was passed over can never come into force.
 */

import { isFormat } from '../../core/format-name.ts';
import type { DiskImage } from '../disk-image.ts';
import { DEFAULT_COMMIT_POLICY } from '../commit-policy.ts';
import type { BackingReference, OpenOptions } from '../image-options.ts';
import { BtreeImage } from './btree-image.ts';
import { BLOCK_SIZE } from './on-disk/layout.ts';
import type { Superblock } from './on-disk/superblock.ts';
import { applyRecords, claimAll, refuseOverlaps } from './tree/claims.ts';
import { findState, readSnapshots, type FoundState } from './tree/recovery.ts';
import { ImageCore } from './tree/image-core.ts';

/** Bytes of memory for nodes, as much as qcow2 has for L2 tables at most. */
export const CACHE_SIZE_DEFAULT = 32 * 1024 * 1024;

/**
 * Opens a B-tree image.
 *
 * @throws Qcow2BenchError `btree-bad-magic`, `btree-bad-superblock`, `btree-bad-node`,
 *   `btree-overlap`, `btree-bad-journal`, `btree-bad-snapshot-table`, or of the backing chain
 */
export async function openBtree(options: OpenOptions): Promise<BtreeImage> {
  const { device, readOnly, caches } = options;
  const found = await findState(device);
  const { superblock } = found;
  const snapshots = await readSnapshots(device, superblock);
  let backing: DiskImage | undefined;
  try {
    const reference = backingReferenceOf(superblock);
    if (reference !== undefined) backing = await options.openBacking(reference);
    const core = new ImageCore({
      ...found,
      device,
      snapshots,
      policy: options.commit ?? DEFAULT_COMMIT_POLICY,
      readOnly,
      cacheSize: caches?.btreeCacheSize ?? CACHE_SIZE_DEFAULT,
      backing,
      punches: options.discard !== 'ignore',
    });
    if (readOnly) {
      core.space.startBehind(Math.ceil(device.size() / BLOCK_SIZE));
      await applyRecords(core, found.records);
    } else await prepareToWrite(core, found);
    return new BtreeImage(core, options.readPurpose);
  } catch (error) {
    await backing?.abandon();
    throw error;
  }
}

export function backingReferenceOf({ backing }: Superblock): BackingReference | undefined {
  if (backing === undefined) return undefined;
  const { name, format } = backing;
  return isFormat(format) ? { name, format } : { name, format: undefined, otherFormat: format };
}

async function prepareToWrite(core: ImageCore, found: FoundState): Promise<void> {
  const { superblock, records, isFallback } = found;
  // What was read may be in the page cache alone, if only the process died that wrote it.
  await core.device.sync('commit', 'never');
  const nodes = await claimAll(core, records);
  if (records.length === 0 && !isFallback && !superblock.isUnordered) return;
  await applyRecords(core, records);
  if (records.length > 0) await refuseOverlaps(core, nodes);
  await core.lock.hold(() => core.commit('commit'));
  // What records used, some of them let go again.
  if (records.length > 0) await claimAll(core);
}
