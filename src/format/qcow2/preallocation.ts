/**
 * Preallocation of a disk that is being made: every guest cluster gets its host cluster before the first write.
 *
 *   metadata   clusters are taken and linked as writes would take them; the file is as long as they reach
 *   falloc     one contiguous area, described by refcount structures of its own in front of it, and reserved
 *   full       the same, filled with zeroes
 *
 * With an external data file only tables are made here; the data file is made as long as the disk, as the mode says.
 *
 * Invariants: the tables are in the file before the header says how large the disk is; the caller holds the metadata
 * lock, and no guest writes meanwhile.
 */

import { alignDown, ceilDiv } from '../../core/alignment.ts';
import { Qcow2BenchError } from '../../core/error.ts';
import type { BlockDevice, FileGrowth } from '../../device/block-device.ts';
import { extendEmptyFile } from '../empty-file.ts';
import type { Preallocation } from '../image-shape.ts';
import type { Allocation, WriteMapper } from './allocation.ts';
import type { DataWriter } from './data-writer.ts';
import type { Geometry } from './geometry.ts';
import type { L2Tables } from './l2-tables.ts';
import { layRefcountArea } from './refcount-growth.ts';
import type { Refcounts } from './refcounts.ts';

/** How many bytes QEMU maps at most in one go. */
const MAPPED_MAX = 2 ** 31 - 1;

export interface PreallocationOptions {
  readonly geometry: Geometry;
  readonly tables: L2Tables;
  readonly refcounts: Refcounts;
  readonly mapper: WriteMapper;
  readonly writer: DataWriter;
  /** The file that guest data lies in. */
  readonly dataDevice: BlockDevice;
  readonly hasDataFile: boolean;
}

/** Preallocates a disk of `virtualSize` bytes. */
export async function preallocate(
  options: PreallocationOptions,
  virtualSize: number,
  mode: Exclude<Preallocation, 'off'>,
): Promise<void> {
  if (mode === 'metadata' || options.hasDataFile) await linkAll(options, virtualSize, GROWTH[mode]);
  else await layContiguous(options, virtualSize, GROWTH[mode]);
}

const GROWTH: Readonly<Record<Exclude<Preallocation, 'off'>, FileGrowth>> = {
  metadata: 'hole',
  falloc: 'reserved',
  full: 'zeroes',
};

/** Takes clusters as writes would, and links them without writing. */
async function linkAll(
  { geometry, mapper, writer, dataDevice }: PreallocationOptions,
  virtualSize: number,
  growth: FileGrowth,
): Promise<void> {
  const mappedMax = alignDown(MAPPED_MAX, geometry.clusterSize);
  let end = 0;
  for (let done = 0; done < virtualSize;) {
    const extent = await mapper.map(done, Math.min(virtualSize - done, mappedMax));
    for (const allocation of extent.allocations) {
      allocation.isReservation = true;
      // Only the disk's end leaves a part of a cluster, which is filled.
      allocation.isFilled = allocation.cowTailFrom === allocation.cowTailTo;
      await writer.link(allocation);
    }
    done += extent.length;
    end = extent.hostOffset + extent.length;
  }
  const size = dataDevice.size();
  if (size === 0) await extendEmptyFile(dataDevice, end, growth);
  else if (end > size) await dataDevice.truncate(end, 'data', growth);
}

/** Lays all clusters one after another behind new refcount structures, and links them. */
async function layContiguous(
  options: PreallocationOptions,
  virtualSize: number,
  growth: FileGrowth,
): Promise<void> {
  const { geometry, refcounts, tables, dataDevice } = options;
  const { clusterSize } = geometry;
  const clusters = ceilDiv(virtualSize, clusterSize);
  const area = await layRefcountArea(refcounts, {
    firstCluster: await endOfUsed(refcounts, ceilDiv(dataDevice.size(), clusterSize)),
    // Tables may come to lie anywhere, but what describes them must be there.
    clustersBehind: clusters + ceilDiv(clusters, geometry.l2Entries),
    size: 'exact',
  });
  const start = area * clusterSize;
  if ((await refcounts.allocateAt(start, clusters)) !== clusters) {
    throw new Qcow2BenchError('qcow2-not-empty', 'the file has clusters in use past its end', {
      path: dataDevice.path,
    });
  }
  const end = start + clusters * clusterSize;
  // Also for an empty disk, as in QEMU, where it costs a sync.
  await dataDevice.truncate(end, 'data', growth);
  for (let done = 0; done < clusters;) {
    const guestOffset = done * clusterSize;
    const inSlice = Math.min(clusters - done, tables.sliceEntries - tables.indexInSlice(guestOffset));
    await options.writer.link(wholeClusters(guestOffset, start + guestOffset, inSlice, clusterSize));
    done += inSlice;
  }
}

/** One past the last cluster in use. */
async function endOfUsed(refcounts: Refcounts, fileClusters: number): Promise<number> {
  let end = fileClusters;
  while (end > 0 && (await refcounts.get(end - 1)) === 0) end--;
  return end === 0 ? fileClusters : end;
}

function wholeClusters(
  guestOffset: number,
  hostOffset: number,
  clusters: number,
  clusterSize: number,
): Allocation {
  return {
    guestOffset,
    hostOffset,
    clusters,
    keepsClusters: false,
    cowHeadFrom: 0,
    cowHeadTo: 0,
    cowTailFrom: clusters * clusterSize,
    cowTailTo: clusters * clusterSize,
    headType: 'unallocated',
    tailType: 'unallocated',
    isReservation: true,
    isFilled: true,
    isCopied: false,
    waiters: undefined,
  };
}
