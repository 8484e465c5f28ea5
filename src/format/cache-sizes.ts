/**
 * The sizes of the metadata caches that an image is opened with, as QEMU's options of the same
 * names give them (`cache-size`, `l2-cache-size`, `refcount-cache-size`, `l2-cache-entry-size`).
 * Those are of qcow2; how they add up is in `qcow2/cache-geometry.ts`. The last is of the B-tree.
 */

/** All in bytes; what is absent follows from the rest and from the disk. */
export interface CacheSizes {
  /** Of both caches together. */
  readonly cacheSize?: number | undefined;
  readonly l2CacheSize?: number | undefined;
  readonly refcountCacheSize?: number | undefined;
  /**
   * Of one slice of an L2 table, the unit in which L2 tables are cached: a power of two up to a
   * cluster.
   */
  readonly l2CacheEntrySize?: number | undefined;
  /** Of the nodes of a B-tree. */
  readonly btreeCacheSize?: number | undefined;
}

/** In QEMU's names, as `--image-opts` and the command line take them. */
export const CACHE_SIZE_OPTIONS = {
  cacheSize: 'cache-size',
  l2CacheSize: 'l2-cache-size',
  refcountCacheSize: 'refcount-cache-size',
  l2CacheEntrySize: 'l2-cache-entry-size',
  btreeCacheSize: 'btree-cache-size',
} as const satisfies Record<keyof CacheSizes, string>;

/** What is given of `sizes`; `undefined` if that is nothing. */
export function givenSizes(sizes: CacheSizes): CacheSizes | undefined {
  const parts = Object.entries(sizes).filter(([, value]) => value !== undefined);
  return parts.length === 0 ? undefined : Object.fromEntries(parts);
}
