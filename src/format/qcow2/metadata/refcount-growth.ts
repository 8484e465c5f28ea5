/**
 * New refcount blocks and larger refcount tables: what an allocation needs when no block describes
 * the clusters it wants (qcow2 specification, "Host cluster management"; write sequences in
 * docs/qemu-rules.md).
 *
 * Invariant: at every moment the file's refcount structures are whole. A block is durable before
 * the table points to it, a table before the header does.
 */

import { alignUp, ceilDiv } from '../../../core/alignment.ts';
import { Qcow2BenchError, assertInvariant } from '../../../core/error.ts';
import { LIMITS } from '../../../core/limits.ts';
import type { HostCluster, HostOffset } from '../../../core/offsets.ts';
import type { TableCache } from './table-cache.ts';
import type { Geometry } from '../on-disk/geometry.ts';
import type { HeaderStore } from './header-store.ts';
import { ENTRY_SIZE } from '../on-disk/layout.ts';
import type { RefcountCodec } from '../on-disk/refcount-codec.ts';
import type { RefcountTable } from './refcount-table.ts';

/** What growth needs of the refcounts it extends. */
export interface RefcountGrowth {
  readonly header: HeaderStore;
  readonly geometry: Geometry;
  readonly table: RefcountTable;
  readonly blockCache: TableCache;
  readonly l2Cache: TableCache;
  readonly codec: RefcountCodec;
  findFree(count: number): Promise<HostCluster>;
  update(hostOffset: HostOffset, length: number, delta: number, freed: 'keep'): Promise<boolean>;
  free(hostOffset: HostOffset, length: number, freed: 'keep'): Promise<void>;
}

/** Answer of `addRefcountBlock`: the search for free clusters has to start over. */
export const RESTART = -1;

/**
 * Adds the refcount block that describes host cluster `cluster`.
 *
 * @returns always RESTART (-1): the new block may be where the caller wanted to allocate
 */
export async function addRefcountBlock(refcounts: RefcountGrowth, cluster: HostCluster): Promise<number> {
  const { geometry, table, blockCache, codec } = refcounts;
  const { clusterSize, refcountBlockEntries } = geometry;
  const tableIndex = Math.floor(cluster / refcountBlockEntries);

  // The table is written at once, and must not overtake L2 entries that a freed cluster still waits
  // for.
  await refcounts.l2Cache.flush('refcount-growth');

  const blockCluster = await refcounts.findFree(1);
  if (blockCluster === 0) {
    await refcounts.header.markCorruptAt(
      'the header cluster has refcount 0 and would be allocated for a refcount block',
      0,
    );
  }
  const blockOffset: HostOffset = blockCluster * clusterSize;
  const describesItself = Math.floor(blockCluster / refcountBlockEntries) === tableIndex;
  if (!describesItself) {
    // Another block describes the new one. That may itself need a block, one that describes itself.
    if (!(await refcounts.update(blockOffset, clusterSize, 1, 'keep'))) return RESTART;
    await blockCache.flush('refcount-growth');
  }
  const slot = await blockCache.acquireEmpty(blockOffset);
  try {
    blockCache.bytes(slot).fill(0);
    if (describesItself) codec.set(blockCache.view(slot), blockCluster % refcountBlockEntries, 1);
    blockCache.markDirty(slot);
    await blockCache.flush('refcount-growth');
  } finally {
    blockCache.release(slot);
  }

  if (tableIndex < table.entries) await table.setBlock(tableIndex, blockOffset);
  else await growTable(refcounts, { tableIndex, blockOffset, cluster });
  return RESTART;
}

interface NewBlock {
  readonly tableIndex: number;
  readonly blockOffset: HostOffset;
  /** The cluster for which the block is wanted. */
  readonly cluster: HostCluster;
}

/**
 * Replaces the refcount table by a larger one that includes `newBlock`, after everything described
 * so far.
 */
async function growTable(refcounts: RefcountGrowth, newBlock: NewBlock): Promise<void> {
  const { clusterSize, refcountBlockEntries } = refcounts.geometry;
  const described = Math.max(newBlock.cluster + 1, newBlock.blockOffset / clusterSize);
  const firstCluster: HostCluster = ceilDiv(described, refcountBlockEntries) * refcountBlockEntries;
  await layRefcountArea(refcounts, { firstCluster, clustersBehind: 0, size: 'with-spare', newBlock });
  // The caller's block is the one that is wanted next: it counts as just used.
  const { blockCache } = refcounts;
  blockCache.release(await blockCache.acquire(newBlock.blockOffset));
}

export interface RefcountArea {
  /** Where the area begins; nothing is there or behind. */
  readonly firstCluster: HostCluster;
  /** Clusters behind the area that its blocks describe too, and leave free. */
  readonly clustersBehind: number;
  /** Whether the table has half as much again as is needed. */
  readonly size: 'exact' | 'with-spare';
  /** A block that exists and is not in the table yet. */
  readonly newBlock?: NewBlock | undefined;
}

/**
 * Lays a new refcount table, and the blocks that are missing, into an area of their own, whose
 * blocks describe the area itself and what is asked for behind it; then frees the old table.
 *
 * @returns the cluster behind the area
 */
export async function layRefcountArea(refcounts: RefcountGrowth, area: RefcountArea): Promise<HostCluster> {
  const { geometry, table, blockCache } = refcounts;
  const { clusterSize, refcountBlockEntries } = geometry;
  const { firstCluster: areaCluster, newBlock } = area;
  const areaIndex = Math.floor(areaCluster / refcountBlockEntries);
  const hasSpare = area.size === 'with-spare';

  const blockCount = blocksNeeded(geometry, areaCluster + area.clustersBehind, hasSpare);
  const wanted = hasSpare ? blockCount + ceilDiv(blockCount, 2) : blockCount;
  const entries = alignUp(wanted, clusterSize / ENTRY_SIZE);
  if (entries * ENTRY_SIZE > LIMITS.refcountTableBytes) {
    throw new Qcow2BenchError(
      'qcow2-refcount-table-full',
      'the image needs a refcount table above 8 MiB; use a larger cluster size',
      { path: refcounts.header.device.path },
    );
  }
  const blocks = new Float64Array(entries);
  blocks.set(table.blockOffsets().subarray(0, entries));
  if (newBlock !== undefined) blocks[newBlock.tableIndex] = newBlock.blockOffset;

  const areaOffset: HostOffset = areaCluster * clusterSize;
  let missing = 0;
  for (let index = areaIndex; index < blockCount; index++) if (blocks[index] === 0) missing++;
  const tableOffset: HostOffset = areaOffset + missing * clusterSize;
  const areaEnd: HostCluster = tableOffset / clusterSize + (entries * ENTRY_SIZE) / clusterSize;

  let nextBlock: HostOffset = areaOffset;
  for (let index = areaIndex; index < blockCount; index++) {
    const present = blocks[index] as number;
    const slot = await (present === 0 ? blockCache.acquireEmpty(nextBlock) : blockCache.acquire(present));
    try {
      if (present === 0) {
        blockCache.bytes(slot).fill(0);
        blocks[index] = nextBlock;
        nextBlock += clusterSize;
        blockCache.markDirty(slot);
      }
      takeArea(refcounts, { slot, index, from: areaCluster, to: areaEnd });
    } finally {
      blockCache.release(slot);
    }
  }
  assertInvariant(nextBlock === tableOffset, 'the new refcount area was laid out wrongly');
  await blockCache.flush('refcount-growth');

  const old = { offset: table.offset, length: table.byteLength };
  await table.replace(blocks, tableOffset, 'refcount-growth');
  await refcounts.free(old.offset, old.length, 'keep');
  return areaEnd;
}

/** Sets the refcounts of the area's clusters that one block describes to 1. */
function takeArea(
  refcounts: RefcountGrowth,
  area: { slot: number; index: number; from: number; to: number },
): void {
  const { blockCache, codec, geometry } = refcounts;
  const first = area.index * geometry.refcountBlockEntries;
  const from = Math.max(area.from, first);
  const to = Math.min(area.to, first + geometry.refcountBlockEntries);
  if (from >= to) return;
  const block = blockCache.view(area.slot);
  for (let cluster = from; cluster < to; cluster++) codec.set(block, cluster - first, 1);
  blockCache.markDirty(area.slot);
}

/**
 * How many refcount blocks describe `clusters` clusters, themselves, and a table for them, perhaps
 * with half as much again to spare.
 */
function blocksNeeded(geometry: Geometry, clusters: number, hasSpare: boolean): number {
  const tableClusterEntries = geometry.clusterSize / ENTRY_SIZE;
  let used = clusters;
  let blocks = 0;
  let table = 0;
  let total = 0;
  for (let spare = hasSpare; ;) {
    const before = total;
    blocks = ceilDiv(used + table + blocks, geometry.refcountBlockEntries);
    table = ceilDiv(blocks, tableClusterEntries);
    total = used + blocks + table;
    if (total !== before) continue;
    if (!spare) return blocks;
    used += ceilDiv(table, 2);
    total = 0;
    spare = false;
  }
}
