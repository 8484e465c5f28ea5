/**
 * Preallocation of a disk, or of what it grows by: every guest cluster gets its host cluster before
 * the first write.
 *
 *   metadata   clusters are taken and linked as writes would take them; the file is as long as they reach
 *   falloc     one contiguous area, described by refcount structures of its own in front of it, and reserved
 *   full       the same, filled with zeroes
 *
 * With an external data file only tables are made here; the data file is made as long as the disk,
 * as the mode says.
 *
 * Invariants: the tables are in the file before the header says how large the disk is; the caller
 * holds the metadata lock, and no guest writes meanwhile.
 */

import { alignDown, ceilDiv } from '../../core/alignment.ts';
import { Qcow2BenchError } from '../../core/error.ts';
import type { GuestOffset, HostOffset } from '../../core/offsets.ts';
import type { FileGrowth } from '../../device/block-device.ts';
import { extendEmptyFile, PREALLOCATION_GROWTH } from '../empty-file.ts';
import type { Preallocation } from '../image-shape.ts';
import type { Allocation, WriteMapper } from './io/write-mapper.ts';
import type { DataWriter } from './io/data-writer.ts';
import type { ImageCore } from './metadata/image-core.ts';
import { layRefcountArea } from './metadata/refcount-growth.ts';
import type { Refcounts } from './metadata/refcounts.ts';

/** How many bytes QEMU maps at most in one go. */
const MAPPED_MAX = 2 ** 31 - 1;

/** What links the clusters that preallocation takes. */
export interface ClusterLinker {
  readonly mapper: WriteMapper;
  readonly writer: DataWriter;
}

/** A part of a disk, in bytes: all of it, or what it grows by. */
export interface DiskPart {
  readonly from: number;
  readonly to: number;
  /**
   * The backing file has data there, which clusters of zeroes hide: subclusters become allocated.
   * Default false.
   */
  readonly hidesBacking?: boolean;
}

/** Preallocates the part of a disk that ends where the disk is to end. */
export async function preallocate(
  core: ImageCore,
  linker: ClusterLinker,
  part: DiskPart,
  mode: Exclude<Preallocation, 'off'>,
): Promise<void> {
  if (mode === 'metadata' || core.dataFile !== undefined) {
    await linkAll(core, linker, part, PREALLOCATION_GROWTH[mode]);
  } else await layContiguous(core, linker, part, PREALLOCATION_GROWTH[mode]);
}

/** Takes clusters as writes would, and links them without writing. */
async function linkAll(
  { geometry, guestFile }: ImageCore,
  { mapper, writer }: ClusterLinker,
  { from, to }: DiskPart,
  growth: FileGrowth,
): Promise<void> {
  const mappedMax = alignDown(MAPPED_MAX, geometry.clusterSize);
  let end = 0;
  for (let done = from; done < to;) {
    const extent = await mapper.map(done, Math.min(to - done, mappedMax));
    for (const allocation of extent.allocations) {
      allocation.isReservation = true;
      // Only the two ends leave parts of a cluster, which are filled.
      allocation.isFilled =
        allocation.cowHeadFrom === allocation.cowHeadTo && allocation.cowTailFrom === allocation.cowTailTo;
      await writer.link(allocation);
    }
    done += extent.length;
    end = extent.hostOffset + extent.length;
  }
  const size = guestFile.size();
  if (size === 0) await extendEmptyFile(guestFile, end, growth);
  else if (end > size) await guestFile.truncate(end, 'data', growth);
}

/** Lays all clusters one after another behind new refcount structures, and links them. */
async function layContiguous(
  { geometry, refcounts, tables, device }: ImageCore,
  { writer }: ClusterLinker,
  { from, to, hidesBacking = false }: DiskPart,
  growth: FileGrowth,
): Promise<void> {
  const { clusterSize } = geometry;
  const first = alignDown(from, clusterSize);
  const clusters = ceilDiv(to - first, clusterSize);
  const area = await layRefcountArea(refcounts, {
    firstCluster: await endOfUsed(refcounts, ceilDiv(device.size(), clusterSize)),
    // Tables may come to be anywhere, but what describes them must be there.
    clustersBehind: clusters + ceilDiv(clusters, geometry.l2Entries),
    size: 'exact',
  });
  const start = area * clusterSize;
  if ((await refcounts.allocateAt(start, clusters)) !== clusters) {
    throw new Qcow2BenchError('qcow2-not-empty', 'the file has clusters in use past its end', {
      path: device.path,
    });
  }
  const end = start + clusters * clusterSize;
  try {
    // Also for an empty disk, as in QEMU, where it costs a sync.
    await device.truncate(end, 'data', growth);
  } catch (error) {
    await refcounts.free(start, clusters * clusterSize, 'keep');
    throw error;
  }
  for (let done = 0; done < clusters;) {
    const guestOffset = first + done * clusterSize;
    const inSlice = Math.min(clusters - done, tables.sliceEntries - tables.indexInSlice(guestOffset));
    const head = Math.max(0, from - guestOffset);
    await writer.link(
      wholeClusters(guestOffset, {
        hostOffset: start + done * clusterSize,
        clusters: inSlice,
        clusterSize,
        head,
        isReservation: !hidesBacking,
      }),
    );
    done += inSlice;
  }
}

/** One past the last cluster in use. */
async function endOfUsed(refcounts: Refcounts, fileClusters: number): Promise<number> {
  let end = fileClusters;
  while (end > 0 && (await refcounts.get(end - 1)) === 0) end--;
  return end === 0 ? fileClusters : end;
}

/** New clusters, of which `head` bytes belong to what was there before, and are copied. */
function wholeClusters(
  guestOffset: GuestOffset,
  {
    hostOffset,
    clusters,
    clusterSize,
    head,
    isReservation,
  }: {
    readonly hostOffset: HostOffset;
    readonly clusters: number;
    readonly clusterSize: number;
    readonly head: number;
    readonly isReservation: boolean;
  },
): Allocation {
  return {
    guestOffset,
    hostOffset,
    clusters,
    keepsClusters: false,
    cowHeadFrom: 0,
    cowHeadTo: head,
    cowTailFrom: clusters * clusterSize,
    cowTailTo: clusters * clusterSize,
    headType: 'unallocated',
    tailType: 'unallocated',
    isReservation,
    isFilled: head === 0,
    isCopied: false,
    waiters: undefined,
  };
}
