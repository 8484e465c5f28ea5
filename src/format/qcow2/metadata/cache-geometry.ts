/**
 * How large the metadata caches of an image are (rule R7): QEMU's options, its defaults and its
 * arithmetic.
 *
 * - `l2-cache-size` defaults to what maps the whole disk, at most 32 MiB; more than the disk needs
 *   is not taken.
 * - `refcount-cache-size` defaults to the least, four clusters.
 * - `cache-size` is both together: what is left of it goes to the one that is not given. If neither
 *   is, the L2 cache gets what the disk needs and the refcount cache the rest; where that is too
 *   little, the refcount cache gets four clusters and the L2 cache the rest.
 * - `l2-cache-entry-size` defaults to a cluster, or, if the L2 cache cannot hold the whole disk's
 *   tables, to 4 KiB.
 * - Both caches hold whole entries only; at least two L2 slices and four refcount blocks, whatever
 *   was asked for.
 *
 * (`qemu-img` prints the same refusals; the arithmetic is held against it in
 * test/format/qcow2/caches.test.ts.)
 */

import { alignUp, ceilDiv, isPowerOfTwo } from '../../../core/alignment.ts';
import { Qcow2BenchError } from '../../../core/error.ts';
import { LIMITS } from '../../../core/limits.ts';
import { formatSize } from '../../../core/size.ts';
import type { CacheSizes } from '../../cache-sizes.ts';
import type { Geometry } from '../on-disk/geometry.ts';
import { CLUSTER_BITS_MIN, ENTRY_SIZE } from '../on-disk/layout.ts';

export interface CacheGeometry {
  /** Entries of an L2 slice, the unit in which L2 tables are cached, read and written. */
  readonly l2SliceEntries: number;
  /** Bytes of an L2 slice. */
  readonly l2SliceSize: number;
  readonly l2Slots: number;
  readonly refcountSlots: number;
}

const DEFAULT_L2_CACHE_MAX = 32 * 1024 * 1024;
const MIN_L2_SLOTS = 2;
const MIN_REFCOUNT_SLOTS = 4;
const SMALL_L2_SLICE = 4096;

/**
 * The caches of an image of `virtualSize` bytes.
 *
 * @throws Qcow2BenchError `bad-cache-size` for sizes that contradict each other or that no cache
 *   can have
 */
export function cacheGeometry(
  geometry: Geometry,
  virtualSize: number,
  sizes: CacheSizes = {},
): CacheGeometry {
  const { clusterSize } = geometry;
  const entrySize = geometry.entryWords * ENTRY_SIZE;
  const wholeDisk = alignUp(ceilDiv(virtualSize, clusterSize) * entrySize, clusterSize);
  const { l2CacheSize, refcountCacheSize } = shareOut(sizes, wholeDisk, MIN_REFCOUNT_SLOTS * clusterSize);
  const l2SliceSize =
    sizes.l2CacheEntrySize ?? (l2CacheSize < wholeDisk ? Math.min(clusterSize, SMALL_L2_SLICE) : clusterSize);
  if (!isPowerOfTwo(l2SliceSize) || l2SliceSize < 2 ** CLUSTER_BITS_MIN || l2SliceSize > clusterSize) {
    throw refusal(
      `invalid L2 cache entry size ${formatSize(l2SliceSize)}: ` +
        `it must be a power of two from 512B to the cluster size (${formatSize(clusterSize)})`,
    );
  }
  return {
    l2SliceEntries: l2SliceSize / entrySize,
    l2SliceSize,
    l2Slots: slotsOf('L2', l2CacheSize, { entrySize: l2SliceSize, least: MIN_L2_SLOTS }),
    refcountSlots: slotsOf('refcount', refcountCacheSize, {
      entrySize: clusterSize,
      least: MIN_REFCOUNT_SLOTS,
    }),
  };
}

type Shares = Required<Pick<CacheSizes, 'l2CacheSize' | 'refcountCacheSize'>>;

/** @param wholeDisk bytes of all L2 tables that the disk can have */
function shareOut(
  sizes: CacheSizes,
  wholeDisk: number,
  leastRefcounts: number,
): { readonly [Key in keyof Shares]: number } {
  const { cacheSize, l2CacheSize: l2Asked, refcountCacheSize: refcountsAsked } = sizes;
  const l2CacheSize = Math.min(wholeDisk, l2Asked ?? DEFAULT_L2_CACHE_MAX);
  if (cacheSize === undefined) return { l2CacheSize, refcountCacheSize: refcountsAsked ?? 0 };
  if (l2Asked !== undefined && refcountsAsked !== undefined) {
    throw refusal(
      'cache-size is the sum of l2-cache-size and refcount-cache-size: set at most two of the three',
    );
  }
  if (l2Asked !== undefined) {
    if (l2Asked > cacheSize) throw refusal(exceeds('l2-cache-size', l2Asked, cacheSize));
    return { l2CacheSize, refcountCacheSize: cacheSize - l2CacheSize };
  }
  if (refcountsAsked !== undefined) {
    if (refcountsAsked > cacheSize) throw refusal(exceeds('refcount-cache-size', refcountsAsked, cacheSize));
    return { l2CacheSize: cacheSize - refcountsAsked, refcountCacheSize: refcountsAsked };
  }
  if (cacheSize >= wholeDisk + leastRefcounts) {
    return { l2CacheSize: wholeDisk, refcountCacheSize: cacheSize - wholeDisk };
  }
  const refcountCacheSize = Math.min(cacheSize, leastRefcounts);
  return { l2CacheSize: cacheSize - refcountCacheSize, refcountCacheSize };
}

function slotsOf(
  name: string,
  cacheSize: number,
  { entrySize, least }: { readonly entrySize: number; readonly least: number },
): number {
  const slots = Math.max(least, Math.floor(cacheSize / entrySize));
  if (slots <= LIMITS.cacheSlots) return slots;
  throw refusal(
    `a ${name} cache of ${formatSize(cacheSize)} has ${String(slots)} entries; the limit is ${String(LIMITS.cacheSlots)}`,
  );
}

function exceeds(option: string, value: number, cacheSize: number): string {
  return `${option} (${formatSize(value)}) cannot exceed cache-size (${formatSize(cacheSize)})`;
}

function refusal(message: string): Qcow2BenchError {
  return new Qcow2BenchError('bad-cache-size', message);
}
